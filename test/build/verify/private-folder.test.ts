import { mkdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { certificateSeconds } from '../../../src/build/verify/enter-container.ts'
import { privateFolder, removeAbandoned } from '../../../src/build/verify/private-folder.ts'

const isThere = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  )

test('folders of processes that are gone are removed, those of living ones and of other containers stay', async () => {
  const own = await privateFolder()
  const [, , , namespace = ''] = basename(own).split('-')
  const child = execa('sleep', ['60'], { reject: false })
  const fields = (await readFile(`/proc/${child.pid}/stat`, 'utf8')).split(' ')
  const named = (pids: string) => join(tmpdir(), `imagebuild-verify-${child.pid}-${pids}-${fields[21]}-test`)
  const [theirs, elsewhere] = [named(namespace), named('1')]
  try {
    expect(((await stat(own)).mode & 0o777).toString(8)).toBe('700')
    await mkdir(theirs)
    await mkdir(elsewhere)
    await removeAbandoned()
    expect(await Promise.all([own, theirs, elsewhere].map(isThere))).toEqual([true, true, true])
    child.kill('SIGKILL')
    await child
    await removeAbandoned()
    expect(await Promise.all([own, theirs, elsewhere].map(isThere))).toEqual([true, false, true])
  } finally {
    child.kill('SIGKILL')
    for (const path of [own, theirs, elsewhere]) await rm(path, { recursive: true, force: true })
  }
})

test('a certificate of the configured CA is good for the boot and the checks, an hour after the boot at most', () => {
  const check = {
    id: 'it',
    title: 'a title',
    sources: [],
    kind: 'command',
    command: 'true',
    exit: 0,
  } as const
  expect(certificateSeconds(120, [check, { ...check, seconds: 300 }])).toBe(120 + 1200 + 60 + 300)
  expect(certificateSeconds(900, Array(300).fill(check))).toBe(900 + 3600)
})
