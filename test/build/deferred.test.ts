import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'

/** The script with another folder before each path, and programs that write down how they were called. */
let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-deferred-'))
  for (const folder of ['usr/sbin', 'usr/bin', 'run', 'boot', 'bin'])
    await mkdir(join(root, folder), { recursive: true })
  for (const path of ['usr/sbin/update-initramfs', 'usr/sbin/update-grub', 'usr/bin/mandb'])
    await program(path)
  for (const name of ['systemctl', 'dpkg', 'dpkg-trigger']) await program(`bin/${name}`)
})
afterEach(async () => {
  await rm(root, { recursive: true })
})

async function program(
  path: string,
  text = `echo "${path.split('/').at(-1)} $*" >> ${root}/log`,
): Promise<void> {
  await writeFile(join(root, path), `#!/bin/sh\n${text}\n`)
  await chmod(join(root, path), 0o755)
}

async function deferred(action: 'hold' | 'run'): Promise<void> {
  const script = await readFile(new URL('../../src/build/deferred.sh', import.meta.url), 'utf8')
  const here = script.replaceAll(/(?<![\w/"}])\/(usr\/s?bin\/[\w-]|run\/imagebuild|boot\/)/g, `${root}/$1`)
  const PATH = `${root}/bin:${root}/usr/sbin:${process.env.PATH}`
  await execa('/bin/sh', ['-c', here.replaceAll('"/boot/', `"${root}/boot/`)], {
    env: { ACTION: action, PATH },
  })
}
const call = (path: string, ...args: string[]) => execa(join(root, path), args)
const log = async () =>
  (await readFile(join(root, 'log'), 'utf8').catch(() => ''))
    .split('\n')
    .filter((line) => !/^(systemctl|$)/.test(line))

test('what packages ask for is done once, in the end, for every kernel', async () => {
  for (const name of ['vmlinuz-6.1', 'initrd.img-6.1', 'vmlinuz-6.12'])
    await writeFile(join(root, 'boot', name), '')
  await deferred('hold')
  await call('usr/sbin/update-initramfs', '-c', '-k', '6.12')
  await call('usr/sbin/update-grub')
  await call('usr/sbin/update-initramfs', '-u')
  await call('usr/bin/mandb', '-pq')
  expect(await log()).toEqual([])
  await deferred('run')
  expect(await log()).toEqual([
    'update-initramfs -u -k 6.1',
    'update-initramfs -c -k 6.12',
    'update-grub ',
    'dpkg-trigger --by-package=man-db /usr/share/man',
    'dpkg --triggers-only man-db',
  ])
  expect((await readdir(join(root, 'usr/sbin'))).sort()).toEqual(['update-grub', 'update-initramfs'])
  expect(await readdir(join(root, 'run'))).toEqual([])
})

test('where nothing was asked for, nothing is done, and all is as it was', async () => {
  const before = await readFile(join(root, 'usr/sbin/update-grub'), 'utf8')
  await deferred('hold')
  await deferred('hold')
  expect(await readFile(join(root, 'usr/sbin/update-grub'), 'utf8')).not.toBe(before)
  await deferred('run')
  await deferred('run')
  expect(await readFile(join(root, 'usr/sbin/update-grub'), 'utf8')).toBe(before)
  expect(await log()).toEqual([])
})

const notRoot = process.getuid?.() !== 0

test.skipIf(notRoot)(
  `another user may ask for it, too${notRoot ? ' (skipped: needs root)' : ''}`,
  async () => {
    await deferred('hold')
    await chmod(root, 0o755)
    const asked = await execa('setpriv', [
      '--reuid=65534',
      '--clear-groups',
      join(root, 'usr/bin/mandb'),
      '-pq',
    ])
    expect(asked.stdout).toBe('mandb is put off until the layers are done')
    await deferred('run')
    expect(await log()).toContain('dpkg --triggers-only man-db')
  },
)

test('what a later layer has removed is not run', async () => {
  await writeFile(join(root, 'boot/vmlinuz-6.1'), '')
  await deferred('hold')
  for (const path of ['usr/sbin/update-initramfs', 'usr/bin/mandb']) {
    await call(path)
    await rm(join(root, path))
    await rm(join(root, `${path}.imagebuild`))
  }
  await deferred('run')
  expect(await log()).toEqual([])
})

test('what removes something is not put off', async () => {
  await deferred('hold')
  await call('usr/sbin/update-initramfs', '-d', '-k', '6.1')
  expect(await log()).toEqual(['update-initramfs.imagebuild -d -k 6.1'.replace('.imagebuild', '')])
})

test('a program that an upgrade has put there meanwhile stays', async () => {
  await deferred('hold')
  await program('usr/sbin/update-grub', 'echo new')
  await deferred('run')
  expect((await call('usr/sbin/update-grub')).stdout).toBe('new')
  expect(await readdir(join(root, 'usr/sbin'))).toEqual(['update-grub', 'update-initramfs'])
})
