import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { SourceContext } from '../../src/source/context.ts'
import { readIndex } from '../../src/updates/package-index.ts'
import type { Suite } from '../../src/updates/suite.ts'
import { type Answer, serveFiles } from '../source/file-server.ts'
import {
  type ArchiveFacts,
  archiveFiles,
  PACKAGES,
  SigningKey,
  serveArchive,
  withEtag,
} from './signed-archive.ts'

const IN_RELEASE = '/debian/dists/trixie-security/InRelease'
const NOW = new Date('2026-11-30T12:00:00Z')

let key: SigningKey
let stranger: SigningKey
let cacheDir: string
const caches: string[] = []

beforeAll(() => {
  key = new SigningKey()
  stranger = new SigningKey()
})
beforeEach(() => {
  cacheDir = mkdtempSync(join(tmpdir(), 'imagebuild-updates-'))
  caches.push(cacheDir)
})
afterAll(() => {
  key[Symbol.dispose]()
  stranger[Symbol.dispose]()
  for (const folder of caches) rmSync(folder, { recursive: true, force: true })
})

interface Question extends Partial<SourceContext> {
  lastSeen?: Date
  names?: string[]
  architectures?: string[]
  keyrings?: Suite['keyrings']
  components?: string[]
}

function read(url: string, question: Question = {}) {
  const {
    lastSeen,
    names = ['openssl', 'tzdata'],
    architectures = ['amd64'],
    components = ['main'],
  } = question
  const { keyrings = [key.keyring], ...ctx } = question
  const suite: Suite = {
    ...{ url: `${url}/debian`, suite: 'trixie-security', components, keyrings, isSecurity: true },
  }
  const wanted = { names: new Set(names), architectures }
  return readIndex(
    suite,
    wanted,
    { now: NOW, lastSeen },
    { cacheDir, signal: new AbortController().signal, ...ctx },
  )
}

async function refusal(files: Record<string, Buffer>, question: Question = {}) {
  await using server = await serveArchive(files)
  return await read(server.url, question).then(
    () => undefined,
    (error) => error,
  )
}

test.each<[string, ArchiveFacts]>([
  ['xz, by its digest', {}],
  ['gz, by its name', { packing: 'gz', byHash: false }],
])('the newest of each wanted package, with its source (%s)', async (_, facts) => {
  await using server = await serveArchive(archiveFiles(key, facts))
  const { offers, date } = await read(server.url, { names: ['openssl', 'none'] })
  expect([...offers]).toEqual([
    [
      'openssl',
      [{ version: '3.5.1-1+b1', architecture: 'amd64', source: 'openssl-src', sourceVersion: '3.5.1-1' }],
    ],
  ])
  expect(date.toISOString()).toBe('2026-11-28T09:09:31.000Z')
})

test('an archive with a list of its own for all architectures, and a machine of two', async () => {
  const all = 'Version: 2026c-0\nPackage: tzdata\nArchitecture: all\n'
  const i386 = 'Package: openssl\nVersion: 3\nArchitecture: i386\n'
  const lists = { 'main/binary-amd64': '', 'main/binary-i386': i386, 'main/binary-all': all }
  await using server = await serveArchive(
    archiveFiles(key, { lists, fields: 'Architectures: all amd64 i386\n' }),
  )
  const { offers } = await read(server.url, { architectures: ['amd64', 'i386'] })
  expect(offers.get('tzdata')).toMatchObject([{ version: '2026c-0', source: 'tzdata' }])
  expect(offers.get('openssl')).toMatchObject([{ version: '3', architecture: 'i386' }])
  await expect(read(server.url, { architectures: ['riscv64'] })).rejects.toThrow(
    'has no packages of main for riscv64: its InRelease names no such list',
  )
})

test('the second time nothing is downloaded, and the signature is checked all the same', async () => {
  await using server = await serveArchive(archiveFiles(key))
  await read(server.url)
  expect(server.requests).toHaveLength(2)
  const again = await read(server.url)
  expect(again.offers.size).toBe(2)
  expect(server.requests).toHaveLength(3)
  expect(server.requests[2]).toMatchObject({ path: IN_RELEASE, headers: { 'if-none-match': /./ } })
  await expect(read(server.url, { keyrings: [stranger.keyring] })).rejects.toThrow('another key')
})

test('what is installed by hand only, and what not all machines get yet, is no update', async () => {
  const phased = `${PACKAGES}\nPackage: openssl\nVersion: 9\nArchitecture: amd64\nPhased-Update-Percentage: 20\n`
  await using server = await serveArchive(archiveFiles(key, { lists: { 'main/binary-amd64': phased } }))
  expect((await read(server.url)).offers.get('openssl')).toMatchObject([{ version: '3.5.1-1+b1' }])
  const fields = 'Architectures: amd64\nNotAutomatic: yes\n'
  await using backports = await serveArchive(archiveFiles(key, { fields }))
  expect((await read(backports.url)).offers.size).toBe(0)
})

test('a changed InRelease, one with another key, and words around what was signed', async () => {
  const files = archiveFiles(key)
  const text = String(files[IN_RELEASE])
  const changed = { ...files, [IN_RELEASE]: Buffer.from(text.replace('28 Nov', '29 Nov')) }
  expect(await refusal(changed)).toMatchObject({
    code: 'build_failed',
    what: expect.stringMatching(/^the signature of http.*InRelease is not good$/),
    why: 'the list was changed after it was signed',
  })
  expect(await refusal(archiveFiles(stranger))).toMatchObject({
    why: 'it was made with another key than the pinned one',
  })
  expect(await refusal({ ...files, [IN_RELEASE]: Buffer.from('<html>Login</html>') })).toMatchObject({
    what: expect.stringContaining('is not good'),
  })
  const around = Buffer.from(`Valid-Until: Mon, 01 Jan 2001 00:00:00 UTC\n\n${text}\nNotAutomatic: yes\n`)
  await using server = await serveArchive({ ...files, [IN_RELEASE]: around })
  expect((await read(server.url)).offers.size).toBe(2)
})

test('a key in between may be unknown, as long as another signature is good', async () => {
  const release = String(archiveFiles(key)[IN_RELEASE])
  const other = String(archiveFiles(stranger)[IN_RELEASE])
  const block = (text: string) =>
    /-----BEGIN PGP SIGNATURE-----[\s\S]*-----END PGP SIGNATURE-----\n/.exec(text)?.[0] ?? ''
  const both = release.replace(block(release), dearmored(block(other), block(release)))
  const files = { ...archiveFiles(key), [IN_RELEASE]: Buffer.from(both) }
  await using server = await serveArchive(files)
  expect((await read(server.url)).offers.size).toBe(2)
})

/** Two signatures in one block, as Debian's InRelease has them. */
function dearmored(...blocks: string[]): string {
  const packets = blocks.map((input) => execFileSync('gpg', ['--dearmor'], { input }))
  const armored = execFileSync('gpg', ['--enarmor'], { input: Buffer.concat(packets) })
  return String(armored)
    .replaceAll('PGP ARMORED FILE', 'PGP SIGNATURE')
    .replace(/^Comment: .*\n/m, '')
}

test('an expired index, one of another suite, one of the future', async () => {
  const validUntil = 'Mon, 30 Nov 2026 11:59:59 UTC'
  expect(await refusal(archiveFiles(key, { validUntil }))).toMatchObject({
    what: expect.stringContaining('InRelease has expired'),
    why: 'it was valid until 2026-11-30T11:59:59.000Z, and it is 2026-11-30T12:00:00.000Z',
  })
  expect(await refusal(archiveFiles(key, { validUntil: 'Mon, 30 Nov 2026 12:00:01 UTC' }))).toBeUndefined()
  const old = archiveFiles(key, { suite: 'bookworm-security' })
  const swapped = { [IN_RELEASE]: old['/debian/dists/bookworm-security/InRelease'] as Buffer }
  expect(await refusal(swapped)).toMatchObject({ why: 'it is signed as stable-security, bookworm-security' })
  // All of Ubuntu's pockets have one codename.
  const pocket = { suite: 'trixie-security-updates', codename: 'trixie-security' }
  expect(await refusal(archiveFiles(key, { names: pocket }))).toMatchObject({
    why: 'it is signed as trixie-security-updates, trixie-security',
  })
  expect(await refusal(archiveFiles(key, { date: 'Wed, 02 Dec 2026 12:00:00 UTC' }))).toMatchObject({
    what: expect.stringContaining('is of the future'),
  })
})

test('an index that is older than the last one seen is a replay, by the caller’s memory or the cache’s', async () => {
  const older = archiveFiles(key, { date: 'Sat, 28 Nov 2026 09:09:30 UTC' })
  const lastSeen = new Date('2026-11-28T09:09:31Z')
  const replay = { what: expect.stringContaining('is older than the last one seen') }
  expect(await refusal(older, { lastSeen })).toMatchObject(replay)
  expect(await refusal(archiveFiles(key), { lastSeen })).toBeUndefined()

  const answers: Record<string, Answer> = {}
  await using server = await serveFiles(answers)
  const put = (files: Record<string, Buffer>) => {
    for (const [path, data] of Object.entries(files)) answers[path] = withEtag(data)
  }
  put(archiveFiles(key))
  await read(server.url)
  put(older)
  await expect(read(server.url, { lastSeen: new Date('2026-11-01') })).rejects.toMatchObject(replay)
  put(archiveFiles(key))
  expect((await read(server.url)).offers.size).toBe(2)
})

test('one that was refused is asked for anew, whatever the server calls the good one', async () => {
  const files = archiveFiles(key)
  const good = files[IN_RELEASE] as Buffer
  let isChanged = true
  const listPath = Object.keys(files).find((path) => path.includes('by-hash')) as string
  await using server = await serveFiles({
    [listPath]: files[listPath] as Buffer,
    [IN_RELEASE]: (response, request) => {
      if (request.headers['if-none-match'] === '"same"') response.writeHead(304).end()
      else
        response
          .writeHead(200, { etag: '"same"' })
          .end(isChanged ? String(good).replace('Test', 'Evil') : good)
    },
  })
  await expect(read(server.url)).rejects.toThrow('is not good')
  isChanged = false
  expect((await read(server.url)).offers.size).toBe(2)
})

test('a list whose digest is another one is neither read nor kept', async () => {
  const files = archiveFiles(key)
  const listPath = Object.keys(files).find((path) => path.includes('by-hash')) as string
  const other = Object.values(
    archiveFiles(key, { lists: { 'main/binary-amd64': 'Package: x\n' } }),
  )[0] as Buffer
  expect(await refusal({ ...files, [listPath]: other })).toMatchObject({
    what: expect.stringContaining('is not the file that was asked for'),
  })
  expect(readdirSync(join(cacheDir, 'files')).filter((name) => name.includes('packages'))).toEqual([])
})

test.each([true, false])(
  'a list that is larger than its InRelease says is given up (length told: %s)',
  async (isTold) => {
    const files = archiveFiles(key)
    const listPath = Object.keys(files).find((path) => path.includes('by-hash')) as string
    const { length } = files[listPath] as Buffer
    let sent = 0
    await using server = await serveFiles({
      [IN_RELEASE]: files[IN_RELEASE] as Buffer,
      [listPath]: (response) => {
        if (isTold) response.setHeader('content-length', 2 ** 40)
        const pour = () => {
          while (!response.destroyed && sent < 2 ** 26 && response.write(Buffer.alloc(2 ** 16)))
            sent += 2 ** 16
          if (sent >= 2 ** 26) response.destroy()
        }
        response.on('drain', pour)
        pour()
      },
    })
    await expect(read(server.url)).rejects.toMatchObject({
      code: 'build_failed',
      what: expect.stringContaining('is not the file that was asked for'),
      why: `it is larger than ${length} bytes`,
    })
    expect(readdirSync(join(cacheDir, 'partial'))).toEqual([])
  },
)

test.each(['InRelease', 'list'])('a server that sends a byte now and then: %s', async (slow) => {
  const files = archiveFiles(key)
  const listPath = Object.keys(files).find((path) => path.includes('by-hash')) as string
  const slowPath = slow === 'list' ? listPath : IN_RELEASE
  await using server = await serveFiles({
    ...files,
    [slowPath]: (response) => {
      const drip = setInterval(() => response.write('x'), 20)
      response.on('close', () => clearInterval(drip))
    },
  })
  await expect(read(server.url, { transferSeconds: 0.5 })).rejects.toMatchObject({
    code: 'unreachable',
    what: `${server.url}${slowPath} cannot be downloaded`,
    why: 'it was not complete after 0.5 seconds',
  })
})

test('of lists and InReleases the cache keeps what came last, and runs at the same time do not disturb each other', async () => {
  const answers: Record<string, Answer> = {}
  await using server = await serveFiles(answers)
  for (const [day, version] of [
    [28, '4'],
    [29, '5'],
    [30, '6'],
  ] as const) {
    const lists = { 'main/binary-amd64': `Package: openssl\nVersion: ${version}\nArchitecture: amd64\n` }
    const files = archiveFiles(key, { lists, date: `${day} Nov 2026 09:00:00 UTC` })
    for (const [path, data] of Object.entries(files)) answers[path] = withEtag(data)
    const found = await Promise.all([1, 2, 3, 4].map(() => read(server.url)))
    expect(found.map(({ offers }) => offers.get('openssl')?.[0]?.version)).toEqual(Array(4).fill(version))
  }
  expect(readdirSync(join(cacheDir, 'files'))).toHaveLength(2)
  expect(server.requests.filter(({ path }) => path.includes('by-hash'))).toHaveLength(3)
})

test('nobody is led into this machine or its networks, unless the target names the host', async () => {
  await using inside = await serveArchive(archiveFiles(key))
  const host = new URL(inside.url).host
  const redirectTo = (to: string) => (response: Parameters<Answer>[0], request: Parameters<Answer>[1]) =>
    response.writeHead(302, { location: `${to}${request.url}` }).end()
  const paths = Object.keys(archiveFiles(key))
  const leading = (to: string) => serveFiles(Object.fromEntries(paths.map((path) => [path, redirectTo(to)])))

  await using outside = await leading(inside.url)
  await expect(read(outside.url)).rejects.toMatchObject({
    code: 'build_failed',
    what: expect.stringContaining('leads into a private network and is not followed'),
    why: `the server redirects to ${inside.url}${IN_RELEASE}`,
    next: expect.stringContaining(host),
  })
  // A name tells by what it is resolved to.
  await using byName = await leading(inside.url.replace('127.0.0.1', 'localhost'))
  await expect(read(byName.url)).rejects.toMatchObject({
    what: expect.stringContaining('leads into a private network'),
    why: expect.stringMatching(/, which is (127\.0\.0\.1|::1)$/),
  })
  expect(inside.requests).toEqual([])
  expect((await read(outside.url, { privateHosts: [host] })).offers.size).toBe(2)
  // The usual port may be named, though addresses do not have it.
  await using usual = await leading('http://127.0.0.1')
  await expect(read(usual.url, { privateHosts: ['127.0.0.1:80'] })).rejects.toMatchObject({
    what: expect.not.stringContaining('private network'),
  })
})

test('keys may be at hand already', async () => {
  await using server = await serveArchive(archiveFiles(key))
  const keyrings = [readFileSync(stranger.keyring), readFileSync(key.keyring)]
  expect((await read(server.url, { keyrings })).offers.size).toBe(2)
  await expect(read(server.url, { keyrings: keyrings.slice(0, 1) })).rejects.toMatchObject({
    why: 'it was made with another key than the pinned one',
  })
})

test('a mirror that cannot be reached, and one that does not have the suite', async () => {
  const closed = await serveArchive({})
  await closed[Symbol.asyncDispose]()
  await expect(read(closed.url)).rejects.toMatchObject({
    code: 'unreachable',
    what: `${closed.url}${IN_RELEASE} cannot be downloaded`,
    why: expect.stringContaining('ECONNREFUSED'),
    next: expect.stringContaining('use a mirror'),
  })
  expect(await refusal({})).toMatchObject({
    code: 'unreachable',
    why: 'the server answers 404: there is no such file',
  })
})
