import { createHash } from 'node:crypto'
import {
  chmod,
  chown,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { adoptFile, confirmUnchanged, findCached, readPointer, writePointer } from '../../src/source/cache.ts'
import type { CachedFile, SourceContext } from '../../src/source/context.ts'
import { fetchFile } from '../../src/source/fetch.ts'
import { UMASKS, underUmask } from '../umask.ts'
import { serveFiles } from './file-server.ts'

const RIGHT = Buffer.from('the right bytes')
const WRONG = Buffer.from('the wrong bytes')
const IDENTITY = 'sha256:recipe'
const digestOf = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const { signal } = new AbortController()

let cacheDir: string
let lines: string[]
let warnings: string[]
let ctx: SourceContext
beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'imagebuild-cache-'))
  lines = []
  warnings = []
  ctx = {
    ...{ cacheDir, signal },
    ...{ onLine: (line) => lines.push(line), onWarning: (message) => warnings.push(message) },
  }
})
afterEach(async () => {
  await rm(cacheDir, { recursive: true, force: true })
})

const find = () => findCached(ctx, digestOf(RIGHT), 'raw')

/** A file that was made here, and a pointer to it. */
async function adopted(): Promise<CachedFile> {
  await writeFile(join(cacheDir, 'made'), RIGHT)
  const file = await adoptFile(ctx, join(cacheDir, 'made'), 'raw')
  await writePointer(cacheDir, IDENTITY, file)
  return file
}

/** Other bytes, in the same inode: as long, with the same owner and the same time of the last change. */
async function swap(path: string, bytes = WRONG): Promise<void> {
  const { size, mtime } = await stat(path)
  await writeFile(path, bytes.subarray(0, size))
  await utimes(path, mtime, mtime)
}

describe('a file in the cache', () => {
  test('is not read again while a proof says that it is what was checked', async () => {
    const file = await adopted()
    for (let times = 0; times < 3; times += 1) {
      expect(await find()).toEqual(file)
      expect(await readPointer(ctx, IDENTITY)).toEqual(file)
    }
    expect(lines).toEqual([])
  })

  test('with other bytes of the same size and time is removed, and said', async () => {
    const { path } = await adopted()
    await swap(path)
    expect(await find()).toBeUndefined()
    expect(warnings).toEqual([expect.stringContaining(`${path} is not what its name says`)])
    expect(await readdir(join(cacheDir, 'files'))).toEqual([])
    expect(await readdir(join(cacheDir, 'checked'))).toEqual([])
  })

  test('behind a pointer is found out as well', async () => {
    const { path } = await adopted()
    await swap(path)
    expect(await readPointer(ctx, IDENTITY)).toBeUndefined()
    expect(warnings).toHaveLength(1)
  })

  test('without a proof is hashed once, and then has one', async () => {
    const file = await adopted()
    await rm(join(cacheDir, 'checked'), { recursive: true })
    expect(await find()).toEqual(file)
    expect(await find()).toEqual(file)
    expect(lines).toEqual([`hashing ${file.path}`])
  })

  test('is found out also where it is swapped right after it was hashed', async () => {
    const { path } = await adopted()
    await rm(join(cacheDir, 'checked'), { recursive: true })
    await find()
    await swap(path)
    expect(await find()).toBeUndefined()
  })

  test.each([
    ['that others may write', (proof: string) => chmod(proof, 0o620)],
    ['that others may read', (proof: string) => chmod(proof, 0o604)],
    ['that is no JSON', (proof: string) => writeFile(proof, '{')],
    ['of other bytes', async (proof: string) => writeFile(proof, await forOther(proof))],
    ['that is a link', async (proof: string) => throughLink(proof)],
  ])('is hashed where there is a proof %s', async (_, spoil) => {
    const { path } = await adopted()
    await spoil(join(cacheDir, 'checked', `${path.split('/').at(-1)}.json`))
    expect(await find()).toMatchObject({ path })
    expect(lines).toEqual([`hashing ${path}`])
  })

  test.skipIf(process.getuid?.() !== 0)('is hashed where another user has written the proof', async () => {
    const { path } = await adopted()
    await chown(join(cacheDir, 'checked', `${path.split('/').at(-1)}.json`), 65534, 65534)
    expect(await find()).toMatchObject({ path })
    expect(lines).toEqual([`hashing ${path}`])
  })

  test.each(UMASKS)(
    'and all beside it has fixed modes under the umask %s; its proof is private',
    async (umask) => {
      await underUmask(umask, adopted)
      const modes = await Promise.all(
        ['files', 'pointers', 'checked'].map(async (folder) => {
          const [name = ''] = await readdir(join(cacheDir, folder))
          const paths = [join(cacheDir, folder), join(cacheDir, folder, name)]
          return await Promise.all(paths.map(async (path) => ((await stat(path)).mode & 0o777).toString(8)))
        }),
      )
      expect(modes).toEqual([
        ['755', '644'],
        ['755', '644'],
        ['755', '600'],
      ])
    },
  )
})

async function forOther(proof: string): Promise<string> {
  return (await readFile(proof, 'utf8')).replace(/sha256:\w{8}/, 'sha256:00000000')
}

async function throughLink(proof: string): Promise<void> {
  await rename(proof, `${proof}.moved`)
  await symlink(`${proof}.moved`, proof)
}

describe('fetching', () => {
  test('gets a swapped file again', async () => {
    await using server = await serveFiles({ '/a': RIGHT })
    const wanted = {
      url: `${server.url}/a`,
      checksum: { algorithm: 'sha256', value: digestOf(RIGHT).slice(7) },
    } as const
    const { path } = await fetchFile(wanted, ctx)
    await swap(path)
    expect(await readFile((await fetchFile(wanted, ctx)).path)).toEqual(RIGHT)
    expect(server.requests).toHaveLength(2)
    expect(warnings).toHaveLength(1)
  })

  test('unpacks anew what was swapped in its unpacked form', async () => {
    const packed = gzipSync(RIGHT)
    await using server = await serveFiles({ '/a': packed })
    const wanted = {
      ...({ format: 'raw', packing: 'gz' } as const),
      url: `${server.url}/a`,
      checksum: { algorithm: 'sha256', value: digestOf(packed).slice(7) },
    } as const
    const { path } = await fetchFile(wanted, ctx)
    await swap(path)
    expect(await readFile((await fetchFile(wanted, ctx)).path)).toEqual(RIGHT)
    expect(server.requests).toHaveLength(1)
    expect(warnings).toHaveLength(1)
  })
})

describe('a pointer', () => {
  test.each([
    ['of an earlier version', (text: string) => text.replace('"schema":2,', '')],
    ['that was cut short', (text: string) => text.slice(0, 20)],
    ['that is empty', () => ''],
    ['that leads out of the cache', (text: string) => text.replace('"raw"', '"../../raw"')],
  ])('%s counts for none', async (_, spoil) => {
    await adopted()
    const [name = ''] = await readdir(join(cacheDir, 'pointers'))
    const pointer = join(cacheDir, 'pointers', name)
    await writeFile(pointer, spoil(await readFile(pointer, 'utf8')))
    expect(await readPointer(ctx, IDENTITY)).toBeUndefined()
  })
})

describe('what was read', () => {
  test('is believed where the file is what it was, or was replaced by the same bytes', async () => {
    const file = await adopted()
    await confirmUnchanged(file, signal)
    await adopted()
    await confirmUnchanged(file, signal)
  })

  test('is not believed where the file has other bytes now, or is gone', async () => {
    const file = await adopted()
    await swap(file.path)
    await expect(confirmUnchanged(file, signal)).rejects.toMatchObject({
      code: 'build_failed',
      what: `${file.path} was changed while it was read`,
    })
    await rm(file.path)
    await expect(confirmUnchanged(file, signal)).rejects.toMatchObject({ code: 'build_failed' })
  })
})
