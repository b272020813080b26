import { chmod, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { SystemFile } from '../../src/source/bootstrap-files.ts'
import { layOutFiles, requireModes } from '../../src/source/system-modes.ts'
import { UMASKS, underUmask } from '../umask.ts'

const FILES: SystemFile[] = [
  { path: '/etc/apt/apt.conf.d/90x', content: 'x' },
  { path: '/usr/lib/x/run', content: 'x', executable: true },
]

let root: string
beforeEach(async () => {
  root = join(await mkdtemp(join(tmpdir(), 'imagebuild-modes-')), 'root')
})
afterEach(() => rm(join(root, '..'), { recursive: true }))

test.each(UMASKS)('files are laid out with the same modes under the umask %s', async (umask) => {
  await underUmask(umask, () => layOutFiles(FILES, root))
  const modes: Record<string, string> = {}
  for (const path of ['', ...(await readdir(root, { recursive: true }))])
    modes[path] = ((await stat(join(root, path))).mode & 0o7777).toString(8)
  expect(modes).toEqual({
    ...{ '': '755', etc: '755', 'etc/apt': '755', 'etc/apt/apt.conf.d': '755' },
    ...{ 'etc/apt/apt.conf.d/90x': '644', usr: '755', 'usr/lib': '755' },
    ...{ 'usr/lib/x': '755', 'usr/lib/x/run': '755' },
  })
  await requireModes(FILES, root)
})

test.each([
  ['etc', 0o700, '/etc has 0700, not 0755'],
  ['', 0o750, '/ has 0750, not 0755'],
  ['tmp', 0o755, '/tmp has 0755, not 1777'],
  ['root', 0o755, '/root has 0755, not 0700'],
  ['etc/apt/apt.conf.d', 0o700, '/etc/apt/apt.conf.d has 0700, not 0755'],
  ['etc/apt/apt.conf.d/90x', 0o600, '/etc/apt/apt.conf.d/90x has 0600, not 0644'],
  ['usr/lib/x/run', 0o644, '/usr/lib/x/run has 0644, not 0755'],
])('a system whose /%s has the mode %o is not let in', async (path, mode, why) => {
  await layOutFiles(FILES, root)
  for (const [folder, usual] of [
    ['tmp', 0o1777],
    ['root', 0o700],
  ] as const) {
    await mkdir(join(root, folder))
    await chmod(join(root, folder), usual)
  }
  await chmod(join(root, path), mode)
  await expect(requireModes(FILES, root)).rejects.toMatchObject({ code: 'build_failed', why })
})
