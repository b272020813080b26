import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readRecord, recordsFolder, SBOM, writeRecord } from '../../src/build/records.ts'
import { UMASKS, underUmask } from '../umask.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-records-'))
})
afterEach(() => rm(root, { recursive: true }))

test.each(UMASKS)('a record is private in folders that are not, under the umask %s', async (umask) => {
  const reports = join(root, 'reports')
  const folder = recordsFolder(reports, 'web', '20260101.1')
  const sha256 = await underUmask(umask, () => writeRecord(folder, SBOM, '{}'))
  const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)
  expect([await mode(reports), await mode(folder), await mode(join(folder, SBOM))]).toEqual([
    '755',
    '755',
    '600',
  ])
  expect(await readdir(folder)).toEqual([SBOM])
  const of = { image: 'web', version: '20260101.1', node: 'lab' }
  expect(await readRecord(reports, of, SBOM, sha256)).toBe('{}')
})
