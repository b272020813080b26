import { execFileSync, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { confirmUnchanged } from '../../src/source/cache.ts'
import type { Checksum } from '../../src/source/checksum.ts'
import type { SourceContext } from '../../src/source/context.ts'
import { fetchFile } from '../../src/source/fetch.ts'
import { rangedFile, serveFiles } from './file-server.ts'

const content = randomBytes(300_000)
const sum = (bytes: Buffer, algorithm: Checksum['algorithm'] = 'sha256'): Checksum => ({
  algorithm,
  value: createHash(algorithm).update(bytes).digest('hex'),
})

let cacheDir: string
let ctx: SourceContext
beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'imagebuild-fetch-'))
  ctx = { cacheDir, signal: new AbortController().signal }
})
afterEach(() => rm(cacheDir, { recursive: true, force: true }))

const leftovers = () => readdir(join(cacheDir, 'partial')).catch(() => [])
/** What a run that was killed leaves behind. */
async function leavePartial(bytes: Buffer, owner = '') {
  const name = `sha256-${sum(content).value}.part`
  await mkdir(join(cacheDir, 'partial'), { recursive: true })
  await writeFile(join(cacheDir, 'partial', name + owner), bytes)
  await writeFile(join(cacheDir, 'partial', `${name}.validator`), '"1"')
}

describe('fetching', () => {
  test.each(['sha256', 'sha512'] as const)('verifies %s and enters the cache under it', async (algorithm) => {
    await using server = await serveFiles({ '/a.qcow2': rangedFile(content) })
    const progress: [number, number | undefined][] = []
    const checksum = sum(content, algorithm)
    const file = await fetchFile(
      { url: `${server.url}/a.qcow2`, checksum },
      { ...ctx, onProgress: (done, total) => progress.push([done, total]) },
    )
    expect(file).toMatchObject({
      path: join(cacheDir, 'files', `${algorithm}-${checksum.value}.qcow2`),
      digest: `${algorithm}:${checksum.value}`,
      size: content.length,
    })
    expect(await readFile(file.path)).toEqual(content)
    expect(progress.at(-1)).toEqual([content.length, content.length])
    expect(await leftovers()).toEqual([])
  })

  test('leaves an archive packed, and names it so', async () => {
    const packed = gzipSync(content)
    await using server = await serveFiles({ '/root.tar.gz': rangedFile(packed) })
    const file = await fetchFile(
      { url: `${server.url}/root.tar.gz`, checksum: sum(packed), format: 'tar.gz' },
      ctx,
    )
    expect(file).toMatchObject({
      path: join(cacheDir, 'files', `sha256-${sum(packed).value}.tar.gz`),
      digest: `sha256:${sum(packed).value}`,
      size: packed.length,
    })
    expect(await readFile(file.path)).toEqual(packed)
  })

  test('asks nobody for what the cache has', async () => {
    await using server = await serveFiles({ '/a': rangedFile(content) })
    await fetchFile({ url: `${server.url}/a`, checksum: sum(content) }, ctx)
    await fetchFile({ url: `${server.url}/gone`, checksum: sum(content) }, ctx)
    expect(server.requests.length).toBe(1)
  })

  test('goes on where the connection broke', async () => {
    const cuts = [100_000, 50_000]
    await using server = await serveFiles({ '/a': rangedFile(content, { cut: () => cuts.shift() }) })
    const file = await fetchFile({ url: `${server.url}/a`, checksum: sum(content) }, ctx)
    expect(await readFile(file.path)).toEqual(content)
    expect(server.requests.length).toBe(3)
    expect(server.requests[2]?.headers).toMatchObject({
      range: expect.stringMatching(/^bytes=[1-9]/),
      'if-range': '"1"',
    })
  })

  test.each(['', '.999999999.01234567-89ab-cdef-0123-456789abcdef'])(
    'goes on where another run stopped (taken by "%s")',
    async (owner) => {
      await leavePartial(content.subarray(0, 123_456), owner)
      await using server = await serveFiles({ '/a': rangedFile(content) })
      const file = await fetchFile({ url: `${server.url}/a`, checksum: sum(content) }, ctx)
      expect(await readFile(file.path)).toEqual(content)
      expect(server.requests[0]?.headers.range).toBe('bytes=123456-')
    },
  )

  test('leaves alone what a running process downloads', async () => {
    const taken = `.${process.ppid}.01234567-89ab-cdef-0123-456789abcdef`
    await leavePartial(content.subarray(0, 1000), taken)
    await using server = await serveFiles({ '/a': rangedFile(content) })
    await fetchFile({ url: `${server.url}/a`, checksum: sum(content) }, ctx)
    expect(server.requests[0]?.headers.range).toBeUndefined()
    expect((await leftovers()).some((name) => name.endsWith(taken))).toBe(true)
  })

  test('starts over when the server has another version by now', async () => {
    await leavePartial(randomBytes(1000))
    await using server = await serveFiles({ '/a': rangedFile(content, { etag: '"2"' }) })
    const file = await fetchFile({ url: `${server.url}/a`, checksum: sum(content) }, ctx)
    expect(await readFile(file.path)).toEqual(content)
  })

  test('starts over when the resumed bytes turn out to be wrong', async () => {
    await leavePartial(randomBytes(1000))
    await using server = await serveFiles({ '/a': rangedFile(content) })
    const file = await fetchFile({ url: `${server.url}/a`, checksum: sum(content) }, ctx)
    expect(await readFile(file.path)).toEqual(content)
    expect(server.requests.map((request) => request.headers.range)).toEqual(['bytes=1000-', undefined])
  })

  test('two at once get the same file', async () => {
    await using server = await serveFiles({ '/a': rangedFile(content) })
    const file = { url: `${server.url}/a`, checksum: sum(content) }
    const [one, two] = await Promise.all([fetchFile(file, ctx), fetchFile(file, ctx)])
    expect([one.path, one.digest]).toEqual([two.path, two.digest])
    // Whoever came first may find the other's in its place.
    for (const file of [one, two]) await confirmUnchanged(file, ctx.signal)
    expect(await readFile(one.path)).toEqual(content)
    expect(await leftovers()).toEqual([])
  })

  test('a wrong checksum leaves nothing', async () => {
    await using server = await serveFiles({ '/a': rangedFile(content) })
    const attempt = fetchFile({ url: `${server.url}/a`, checksum: sum(Buffer.from('other')) }, ctx)
    await expect(attempt).rejects.toMatchObject({
      code: 'build_failed',
      why: expect.stringContaining(sum(content).value),
    })
    expect(await leftovers()).toEqual([])
    expect(await readdir(join(cacheDir, 'files')).catch(() => [])).toEqual([])
  })

  test('a server that keeps cutting it short is unreachable, and what came is kept', async () => {
    let left = 1
    await using server = await serveFiles({
      '/a': rangedFile(content, { cut: () => (left-- > 0 ? 1000 : 0) }),
    })
    await expect(fetchFile({ url: `${server.url}/a`, checksum: sum(content) }, ctx)).rejects.toMatchObject({
      code: 'unreachable',
    })
    const part = (await leftovers()).find((name) => name.endsWith('.part'))
    expect((await readFile(join(cacheDir, 'partial', part ?? ''))).length).toBe(1000)
  })

  test('a 404 is not tried again', async () => {
    await using server = await serveFiles({})
    await expect(fetchFile({ url: `${server.url}/a`, checksum: sum(content) }, ctx)).rejects.toMatchObject({
      code: 'unreachable',
      why: 'the server answers 404: there is no such file',
    })
    expect(server.requests.length).toBe(1)
  })

  test('a server that goes silent is given up', async () => {
    await using server = await serveFiles({
      '/a': (response) => {
        response.writeHead(200, { 'content-length': content.length })
        response.write(content.subarray(0, 10))
      },
    })
    const attempt = fetchFile(
      { url: `${server.url}/a`, checksum: sum(content) },
      { ...ctx, stallSeconds: 0.2 },
    )
    await expect(attempt).rejects.toMatchObject({ why: 'the server sent nothing for too long' })
  })

  test('a port where nobody listens', async () => {
    const attempt = fetchFile({ url: 'http://127.0.0.1:9/a', checksum: sum(content) }, ctx)
    await expect(attempt).rejects.toMatchObject({
      code: 'unreachable',
      what: 'http://127.0.0.1:9/a cannot be downloaded',
    })
  })

  test('giving up throws the reason that was given, and keeps what came', async () => {
    const controller = new AbortController()
    await using server = await serveFiles({
      '/a': (response) => {
        response.writeHead(200, { 'content-length': content.length, etag: '"1"' })
        response.write(content.subarray(0, 1000))
      },
    })
    const attempt = fetchFile(
      { url: `${server.url}/a`, checksum: sum(content) },
      { ...ctx, signal: controller.signal, onProgress: () => controller.abort(new Error('enough')) },
    )
    await expect(attempt).rejects.toThrow('enough')
    expect((await leftovers()).some((name) => name.endsWith('.part'))).toBe(true)
  })

  test('follows redirects, but not in circles', async () => {
    await using server = await serveFiles({
      '/a': (response) => response.writeHead(302, { location: '/b' }).end(),
      '/b': rangedFile(content),
      '/loop': (response) => response.writeHead(302, { location: '/loop' }).end(),
    })
    const file = await fetchFile({ url: `${server.url}/a`, checksum: sum(content) }, ctx)
    expect(file.size).toBe(content.length)
    await expect(
      fetchFile({ url: `${server.url}/loop`, checksum: sum(Buffer.from('x')) }, ctx),
    ).rejects.toMatchObject({ why: 'it redirects more than 5 times' })
  })

  test('is not led from https to http', async () => {
    const tls = ['key.pem', 'cert.pem'].map((name) => join(cacheDir, name)) as [string, string]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2']
    const key = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      tls[0],
      '-out',
      tls[1],
    ]
    execFileSync('openssl', ['req', '-x509', ...key, ...subject], { stdio: 'ignore' })
    // A process of its own: Node reads NODE_EXTRA_CA_CERTS once, when it starts.
    const script = `
      import { createServer } from 'node:https'
      import { readFileSync } from 'node:fs'
      import { fetchFile } from ${JSON.stringify(join(import.meta.dirname, '../../src/source/fetch.ts'))}
      const [key, cert] = ${JSON.stringify(tls)}.map((path) => readFileSync(path))
      const server = createServer({ key, cert }, (_, response) => response.writeHead(302, { location: 'http://127.0.0.1/a' }).end())
      await new Promise((go) => server.listen(0, '127.0.0.1', go))
      const file = { url: 'https://127.0.0.1:' + server.address().port, checksum: { algorithm: 'sha256', value: 'a'.repeat(64) } }
      await fetchFile(file, { cacheDir: ${JSON.stringify(cacheDir)}, signal: new AbortController().signal })
        .catch((error) => console.log(JSON.stringify(error)))
      process.exit()`
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      env: { ...process.env, NODE_EXTRA_CA_CERTS: tls[1] },
    })
    expect(JSON.parse(stdout)).toMatchObject({
      code: 'build_failed',
      why: 'the server redirects to http://127.0.0.1/a',
    })
  })

  test('takes a local file as it lies', async () => {
    const path = join(cacheDir, 'mine.qcow2')
    await writeFile(path, content)
    for (const url of [path, `file://${path}`]) {
      expect((await fetchFile({ url, checksum: sum(content) }, ctx)).path).toBe(path)
    }
    const before = await stat(path, { bigint: true })
    await expect(fetchFile({ url: path, checksum: sum(Buffer.from('x')) }, ctx)).rejects.toMatchObject({
      code: 'build_failed',
    })
    // It is refused, and stays: it is not ours.
    const { ino, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    expect({ ino, mtimeNs, ctimeNs }).toEqual({
      ...{ ino: before.ino, mtimeNs: before.mtimeNs, ctimeNs: before.ctimeNs },
    })
    await expect(fetchFile({ url: join(cacheDir, 'no'), checksum: sum(content) }, ctx)).rejects.toMatchObject(
      { code: 'unreachable' },
    )
  })

  test.each(['xz', 'zst', 'gz'] as const)('unpacks %s, once', async (packing) => {
    const tool = { xz: 'xz', zst: 'zstd', gz: 'gzip' }[packing]
    const packed = execFileSync(tool, ['--stdout'], { input: content, stdio: ['pipe', 'pipe', 'ignore'] })
    await using server = await serveFiles({ '/a': packed })
    const wanted = { url: `${server.url}/a`, checksum: sum(packed), format: 'raw', packing } as const
    const file = await fetchFile(wanted, ctx)
    expect(file.digest).toBe(`sha256:${sum(content).value}`)
    expect(await readFile(file.path)).toEqual(content)
    expect(await fetchFile(wanted, ctx)).toEqual(file)
  })

  test('what is packed otherwise is an error that says so', async () => {
    await using server = await serveFiles({ '/a': content })
    await expect(
      fetchFile({ url: `${server.url}/a`, checksum: sum(content), packing: 'xz' }, ctx),
    ).rejects.toMatchObject({ code: 'build_failed', what: expect.stringContaining('(xz) failed') })
  })

  test('without the tool that unpacks it, says what to install', async () => {
    const packed = gzipSync(content)
    await using server = await serveFiles({ '/a': packed })
    vi.stubEnv('PATH', cacheDir)
    try {
      await expect(
        fetchFile({ url: `${server.url}/a`, checksum: sum(packed), packing: 'xz' }, ctx),
      ).rejects.toMatchObject({
        code: 'prerequisite_missing',
        what: expect.stringContaining('needs the command xz, which is not installed'),
        next: 'apt-get update && apt-get install -y --no-install-recommends xz-utils',
      })
    } finally {
      vi.unstubAllEnvs()
    }
  })

  test('needs no memory for the file', async () => {
    // A process of its own, with the wrapper's settings: 400 MB come, 200 MB are allowed (Node itself takes half of them).
    const script = `
      import { createServer } from 'node:http'
      import { createHash } from 'node:crypto'
      import { fetchFile } from ${JSON.stringify(join(import.meta.dirname, '../../src/source/fetch.ts'))}
      const chunk = Buffer.alloc(1 << 20, 7)
      const hash = createHash('sha256')
      for (let i = 0; i < 400; i++) hash.update(chunk)
      const server = createServer(async (_, response) => {
        for (let i = 0; i < 400; i++) if (!response.write(chunk)) await new Promise((go) => response.once('drain', go))
        response.end()
      })
      await new Promise((go) => server.listen(0, '127.0.0.1', go))
      const file = { url: 'http://127.0.0.1:' + server.address().port, checksum: { algorithm: 'sha256', value: hash.digest('hex') } }
      await fetchFile(file, { cacheDir: ${JSON.stringify(cacheDir)}, signal: new AbortController().signal })
      console.log(Math.round(process.resourceUsage().maxRSS / 1024))
      process.exit()`
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ['--max-semi-space-size=2', '--input-type=module', '-e', script],
      { encoding: 'utf8', env: { ...process.env, MALLOC_ARENA_MAX: '1' } },
    )
    expect(stderr).toBe('')
    expect(Number(stdout)).toBeLessThan(200)
  })
})
