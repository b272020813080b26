import { existsSync, readlinkSync } from 'node:fs'
import {
  type FileHandle,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { placeDurably, writeDurably } from '../../src/core/durable-file.ts'
import { UMASKS, underUmask } from '../umask.ts'

let root: string
let synced: { what: string; isThere: boolean }[]
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-durable-'))
  await using file = await open(root)
  const handles = Object.getPrototypeOf(file) as FileHandle
  synced = []
  vi.spyOn(handles, 'sync').mockImplementation(async function (this: FileHandle) {
    const what = readlinkSync(`/proc/self/fd/${this.fd}`)
    synced.push({ what, isThere: existsSync(join(root, 'file')) })
    await this.datasync()
  })
})
afterEach(async () => {
  vi.restoreAllMocks()
  await rm(root, { recursive: true, force: true })
})

/** First the bytes, which have no name that anybody believes; then the folder, which has the name by now. */
function expectInOrder(): void {
  expect(synced).toEqual([
    { what: expect.stringMatching(/\/(file\..+\.new|finished)$/), isThere: false },
    { what: root, isThere: true },
  ])
}

test('what is written reaches the disk before it has its name, and the name after it', async () => {
  await writeDurably(join(root, 'file'), 'text', 0o600)
  expectInOrder()
  expect(await readFile(join(root, 'file'), 'utf8')).toBe('text')
  expect(await readdir(root)).toEqual(['file'])
})

test('so does what others have written', async () => {
  await writeFile(join(root, 'finished'), 'text')
  await placeDurably(join(root, 'finished'), join(root, 'file'), 0o644)
  expectInOrder()
  expect(await readdir(root)).toEqual(['file'])
})

test('what cannot get its name leaves nothing, and what was there as it was', async () => {
  await mkdir(join(root, 'file/full'), { recursive: true })
  await expect(writeDurably(join(root, 'file'), 'secret', 0o600)).rejects.toMatchObject({ syscall: 'rename' })
  expect(await readdir(root)).toEqual(['file'])
})

test.each(UMASKS)('has its mode under the umask %s', async (umask) => {
  await underUmask(umask, async () => {
    await writeDurably(join(root, 'file'), '', 0o644)
    await writeDurably(join(root, 'secret'), '', 0o600)
    await writeFile(join(root, 'finished'), '')
    await placeDurably(join(root, 'finished'), join(root, 'placed'), 0o644)
  })
  const mode = async (name: string) => ((await stat(join(root, name))).mode & 0o777).toString(8)
  expect([await mode('file'), await mode('secret'), await mode('placed')]).toEqual(['644', '600', '644'])
})
