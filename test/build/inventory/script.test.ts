import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, onTestFinished, test } from 'vitest'
import { takeInventory } from '../../../src/build/inventory/inventory.ts'
import { PACKAGES, recordsFolder, sha256Of } from '../../../src/build/records.ts'
import { aBuild, FakeSession } from '../world.ts'
import { told } from './answer.ts'

const SCRIPT = new URL('../../../src/build/inventory/inventory.sh', import.meta.url).pathname
const FACTS = { version: '20260701.1', digest: 'sha256:1234', user: 'imagebuild' }

test.each(['sh', 'dash', 'bash'])('the script is one for %s', async (shell) => {
  expect(await execa(shell, ['-n', SCRIPT], { reject: false })).toMatchObject({ exitCode: 0, stderr: '' })
})

test('a guest that cannot be asked, or does not stop telling, is no template', async () => {
  const refusing = new FakeSession(() => ({ code: 1, stderr: 'mktemp: No space left on device\n' }))
  await expect(takeInventory(aBuild(), refusing, FACTS)).rejects.toMatchObject({
    code: 'build_failed',
    why: 'inventory.sh ended with exit code 1',
    output: ['mktemp: No space left on device'],
  })
  expect(refusing.ran).toMatchObject([{ options: { sudo: true, env: { BUILD_USER: 'imagebuild' } } }])
  const endless = new FakeSession(() => ({ stdout: 'x'.repeat(9 * 2 ** 20) }))
  await expect(takeInventory(aBuild(), endless, FACTS)).rejects.toMatchObject({
    why: expect.stringContaining('more than 8388608 bytes'),
  })
})

test('what a guest tells becomes records, one of them the list of its packages', async () => {
  const reportsDir = await mkdtemp(join(tmpdir(), 'imagebuild-inventory-'))
  onTestFinished(() => rm(reportsDir, { recursive: true }))
  const session = new FakeSession(() => ({
    stdout: told({
      'apt-sources': '/etc/apt/sources.list\0deb http://deb.debian.org/debian bookworm main\n',
      'apt-keyrings': '',
    }),
  }))
  const artifacts = await takeInventory(aBuild({ reportsDir }), session, FACTS)
  expect(Object.keys(artifacts)).toEqual(['manifest.json', 'packages.txt', 'sbom.cdx.json'])
  const list = await readFile(join(recordsFolder(reportsDir, 'web', FACTS.version), PACKAGES), 'utf8')
  expect(artifacts[PACKAGES]).toBe(sha256Of(list))
  expect(list).toBe(`# schema: 1
# image: web
# distribution: debian 12 bookworm
# architecture: amd64
# apt: deb http://deb.debian.org/debian bookworm main

libc6 2.36-9 amd64 glibc
libc6 2.36-9 i386 glibc
tzdata 1 all tzdata
zstd 1.5.4 amd64 libzstd
`)
})
