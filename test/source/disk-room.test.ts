import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { bootstrapRootfs } from '../../src/source/bootstrap.ts'
import { outOfRoom } from '../../src/source/disk-room.ts'
import { fetchFile } from '../../src/source/fetch.ts'
import { rangedFile, serveFiles } from './file-server.ts'

const notRoot = process.getuid?.() !== 0
const MIB = 2 ** 20

describe.skipIf(notRoot)(`a file system of 8 MiB${notRoot ? ' (skipped: needs root)' : ''}`, () => {
  let dir: string
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'imagebuild room '))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', dir])
  })
  afterEach(async () => {
    execFileSync('umount', [dir])
    await rm(dir, { recursive: true })
  })
  const ctx = () => ({ cacheDir: dir, signal: AbortSignal.timeout(60_000) })

  test('is looked at before a bootstrap: nothing is run, and the message has names and numbers', async () => {
    const lines: string[] = []
    const recipe = { distribution: 'debian', suite: 'trixie', arch: 'amd64' } as const
    await expect(
      bootstrapRootfs(recipe, { ...ctx(), onLine: (line) => lines.push(line) }),
    ).rejects.toMatchObject({
      code: 'busy',
      what: `the file system ${dir} has no room for bootstrapping debian trixie`,
      why: expect.stringMatching(/ MiB are needed in .*, and 8\.0 MiB are free: .* are missing/),
      next: expect.stringContaining('IMAGEBUILD_CACHE_DIR'),
    })
    expect(lines).toEqual([])
  })

  test('is looked at before a download whose length the server tells', async () => {
    const content = Buffer.alloc(9 * MIB, 1)
    await using server = await serveFiles({ '/disk.qcow2': rangedFile(content) })
    const url = `${server.url}/disk.qcow2`
    const checksum = {
      algorithm: 'sha256' as const,
      value: createHash('sha256').update(content).digest('hex'),
    }
    await expect(fetchFile({ url, checksum }, ctx())).rejects.toMatchObject({
      code: 'busy',
      what: `the file system ${dir} has no room for ${url}`,
      why: expect.stringMatching(/^9\.0 MiB are needed in .*: 1\.0 MiB are missing$/),
    })
  })

  test('that runs full while a file is unpacked is named', async () => {
    const plain = join(tmpdir(), `imagebuild-zeros-${process.pid}`)
    await writeFile(plain, Buffer.alloc(16 * MIB))
    execFileSync('gzip', ['--force', plain])
    const packed = `${plain}.gz`
    const value = execFileSync('sha256sum', [packed]).toString().slice(0, 64)
    try {
      await expect(
        fetchFile({ url: packed, checksum: { algorithm: 'sha256', value }, packing: 'gz' }, ctx()),
      ).rejects.toMatchObject({
        code: 'busy',
        what: `the file system ${dir} has no room for unpacking ${packed}`,
        why: expect.stringContaining('it ran full'),
      })
    } finally {
      await rm(packed)
    }
  })
})

test('a failure for another reason stays what it is', async () => {
  const other = new Error('broken pipe')
  expect(await outOfRoom(other, tmpdir(), { purpose: 'a test' })).toBe(other)
})
