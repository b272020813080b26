import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fileChunks } from '../../src/core/file-chunks.ts'

let folder: string
let path: string
const bytes = randomBytes(3 * 2 ** 20 + 17)

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-chunks-'))
  path = join(folder, 'file')
  await writeFile(path, bytes)
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

test('the whole file, in order, out of two buffers', async () => {
  const buffers = new Set<ArrayBufferLike>()
  const copies: Buffer[] = []
  for await (const chunk of fileChunks(path)) {
    buffers.add(chunk.buffer)
    copies.push(Buffer.from(chunk))
  }
  expect(Buffer.concat(copies).equals(bytes)).toBe(true)
  expect(copies.length).toBeGreaterThan(10)
  expect(buffers.size).toBe(2)
})

test('a chunk keeps its bytes while the next one is read', async () => {
  let at = 0
  for await (const chunk of fileChunks(path)) {
    await new Promise((resolve) => setImmediate(resolve))
    expect(chunk.equals(bytes.subarray(at, at + chunk.length))).toBe(true)
    at += chunk.length
  }
  expect(at).toBe(bytes.length)
})

test('whoever stops in the middle leaves no open file', async () => {
  for await (const _ of fileChunks(path)) break
  const open = await readdir('/proc/self/fd')
  const targets = await Promise.all(open.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')))
  expect(targets).not.toContain(path)
})

test('a signal ends it with its reason, and a missing file is told', async () => {
  const controller = new AbortController()
  const reading = async () => {
    for await (const _ of fileChunks(path, controller.signal)) controller.abort(new Error('enough'))
  }
  await expect(reading()).rejects.toThrow('enough')
  await expect(fileChunks(join(folder, 'none')).next()).rejects.toThrow(/ENOENT/)
})
