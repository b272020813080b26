import { mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeFolder } from '../../src/core/make-folder.ts'
import { UMASKS, underUmask } from '../umask.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-folder-'))
})
afterEach(async () => {
  await rm(root, { recursive: true, force: true })
})

test('makes those above it too, with the mode; twice is no error, nor is twice at once', async () => {
  const path = join(root, 'a/b/c')
  await Promise.all([makeFolder(path, 0o700), makeFolder(path, 0o700), makeFolder(join(root, 'a/b/d'))])
  await makeFolder(path)
  expect(((await stat(path)).mode & 0o777).toString(8)).toBe('700')
  expect((await stat(join(root, 'a/b/d'))).isDirectory()).toBe(true)
})

test('some at once, who find the folders above made meanwhile, all succeed', async () => {
  for (let round = 0; round < 200; round += 1) {
    const paths = Array.from({ length: 8 }, (_, n) => join(root, `${round}/a/b/${n}`))
    await Promise.all(paths.map((path) => makeFolder(path)))
    for (const path of paths) expect((await stat(path)).isDirectory()).toBe(true)
  }
})

test('takes a link to a folder for one', async () => {
  await makeFolder(join(root, 'real'))
  await symlink('real', join(root, 'link'))
  await makeFolder(join(root, 'link/inner'))
  expect((await stat(join(root, 'real/inner'))).isDirectory()).toBe(true)
})

test('says what is in the way, and where nobody can make anything', async () => {
  await writeFile(join(root, 'file'), '')
  await symlink('nowhere', join(root, 'dangling'))
  await expect(makeFolder(join(root, 'file'))).rejects.toMatchObject({ code: 'EEXIST' })
  await expect(makeFolder(join(root, 'dangling'))).rejects.toMatchObject({ code: 'EEXIST' })
  await expect(makeFolder(join(root, 'file/below'))).rejects.toMatchObject({ code: 'ENOTDIR' })
  await expect(makeFolder('/proc/nowhere/at/all')).rejects.toMatchObject({
    code: 'ENOENT',
    syscall: 'mkdir',
    path: '/proc/nowhere',
  })
})

test.each(UMASKS)('has its mode under the umask %s, and so have those above it', async (umask) => {
  await underUmask(umask, async () => {
    await makeFolder(join(root, 'shared/a'))
    await makeFolder(join(root, 'own/a'), 0o700)
  })
  const mode = async (path: string) => ((await stat(join(root, path))).mode & 0o777).toString(8)
  expect([await mode('shared'), await mode('shared/a')]).toEqual(['755', '755'])
  expect([await mode('own'), await mode('own/a')]).toEqual(['700', '700'])
})
