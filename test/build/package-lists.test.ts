import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { packageListFile, readPackageList } from '../../src/build/package-lists.ts'
import { PACKAGES, recordsFolder, sha256Of, writeRecord } from '../../src/build/records.ts'
import { formatPackageList } from '../../src/updates/package-list.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-package-lists-'))
})
afterEach(() => rm(root, { recursive: true }))

const at = () => ({ root, target: 'home', reportsDir: join(root, 'reports') })
const WEB = { image: 'web', version: '20260101.1', node: 'b' }

const text = (version: string) =>
  formatPackageList({
    ...{ image: 'web', distribution: { id: 'debian', version: '13', codename: 'trixie' } },
    ...{ architecture: 'amd64', sources: [] },
    packages: [{ name: 'apt', version, architecture: 'amd64', source: 'apt', sourceVersion: version }],
  })
const read = async (version: string) =>
  (await readPackageList(at(), WEB, sha256Of(text(version))))?.packages[0]?.version

async function commit(version: string, node?: string) {
  const file = packageListFile(root, { target: 'home', image: 'web', ...(node !== undefined && { node }) })
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, text(version))
  return file
}

test('a list that was committed is read, the node’s own too', async () => {
  expect(await commit('1')).toBe(join(root, 'imagebuild.packages/home/web.txt'))
  expect(await commit('2', 'b')).toBe(join(root, 'imagebuild.packages/home/web@b.txt'))
  await commit('3', 'c')
  expect([await read('1'), await read('2'), await read('3')]).toEqual(['1', '2', undefined])
})

test('where none was committed, the one that the build has left', async () => {
  await commit('1')
  await writeRecord(recordsFolder(at().reportsDir, 'web', WEB.version, 'b'), PACKAGES, text('2'))
  expect([await read('1'), await read('2')]).toEqual(['1', '2'])
})

test('one of which a byte was changed is not believed, nor is any without a note of it', async () => {
  const file = await commit('1')
  expect(await readPackageList(at(), WEB, undefined)).toBeUndefined()
  await writeFile(file, text('1').replace('amd64', 'arm64'))
  expect(await read('1')).toBeUndefined()
})

test('one that only a newer imagebuild can read is told', async () => {
  const newer = text('1').replace('schema: 1', 'schema: 2')
  await writeFile(await commit('1'), newer)
  await expect(readPackageList(at(), WEB, sha256Of(newer))).rejects.toMatchObject({
    code: 'definition_invalid',
    what: 'the list of packages of web is no list of packages',
  })
})
