import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'

const UNITS = resolve(import.meta.dirname, '../../ci/systemd')
const NAMES = ['imagebuild-rebuild.service', 'imagebuild-rebuild.timer']

let root: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-units-'))
  // A system with imagebuild where the service expects it.
  await mkdir(join(root, 'opt/imagebuild'), { recursive: true })
  await writeFile(join(root, 'opt/imagebuild/imagebuild'), '#!/bin/sh\n', { mode: 0o755 })
  await cp('/usr/lib/systemd/system', join(root, 'usr/lib/systemd/system'), { recursive: true })
  await cp(UNITS, join(root, 'etc/systemd/system'), { recursive: true })
})
afterAll(() => rm(root, { recursive: true }))

/** What systemd says of them; nothing where all is right. */
async function verify(): Promise<string> {
  const units = NAMES.map((name) => join('/etc/systemd/system', name))
  const { all } = await execa('systemd-analyze', ['verify', `--root=${root}`, '--man=no', ...units], {
    ...{ all: true, reject: false },
  })
  // What Debian's own units say of a root that is not whole is no concern here.
  return (all ?? '')
    .split('\n')
    .filter((line) => /imagebuild/.test(line))
    .join('\n')
}

test('systemd takes both units, and knows every option in them', async () => {
  expect(await verify()).toBe('')
})

test.each([
  ['imagebuild-rebuild.service', 'ProtectClock=yes', 'ProtectClocks=yes', /ProtectClocks/],
  ['imagebuild-rebuild.timer', 'OnCalendar=*-*-* 03:00', 'OnCalendar=nightly', /calendar/],
  [
    'imagebuild-rebuild.service',
    '/opt/imagebuild/imagebuild',
    '/opt/imagebuild/other',
    /other is not executable/,
  ],
])('it would not take %s with %s as %s', async (name, from, to, said) => {
  const file = join(root, 'etc/systemd/system', name)
  const unit = await readFile(file, 'utf8')
  await writeFile(file, unit.replace(from, to))
  expect(await verify()).toMatch(said)
  await writeFile(file, unit)
})
