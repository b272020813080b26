import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { PACKAGES, recordsFolder, writeRecord } from '../../src/build/records.ts'
import { type RecordsAt, writeRecords } from '../../src/cli/ci-records.ts'
import type { ImageOutcome } from '../../src/cli/ci-result.ts'
import { unwritten, withRecords } from '../../src/cli/ci-written.ts'
import { reportsFolder } from '../../src/cli/folders.ts'
import type { Locked } from '../../src/cli/lockfile.ts'

let at: RecordsAt
beforeEach(async () => {
  const repository = await mkdtemp(join(tmpdir(), 'imagebuild-written-'))
  at = { repository, root: join(repository, 'infra'), target: 'home' }
  await mkdir(at.root)
})
afterEach(() => rm(at.repository, { recursive: true }))

const VERSION = '20261201.1'
const lock: Locked = {
  ...{
    version: VERSION,
    digest: 'sha256:x',
    kind: 'vm',
    built: '2026-12-01T00:00:00Z',
    templates: { a: 9000 },
  },
}
const web: ImageOutcome = {
  ...{ image: 'web', outcome: 'built', reasons: [], packages: [], changes: [], seconds: 3 },
  after: { version: VERSION, vmids: { a: 9000 } },
}
const TEXT = 'a list\n'
const built = () => writeRecord(recordsFolder(reportsFolder(at.root, 'home'), 'web', VERSION), PACKAGES, TEXT)
const write = (lists: { node: string; text: string }[]) =>
  writeRecords(at, 'web', { lock, lists, suites: {} })
const PROBLEM = [`imagebuild.lock.json and the list of packages do not have web ${VERSION}, which is current`]

test('what is current and not in the lockfile is a problem; what was not built is none', async () => {
  expect(await unwritten(at, [web])).toEqual(PROBLEM)
  expect(await unwritten(at, [{ ...web, outcome: 'failed' }])).toEqual([])
  await write([])
  expect(await unwritten(at, [web])).toEqual([])
})

test('so is a list that was made and is not among the committed ones', async () => {
  await built()
  await write([])
  expect(await unwritten(at, [web])).toEqual(PROBLEM)
  await write([{ node: 'a', text: TEXT }])
  expect(await unwritten(at, [web])).toEqual([])
})

test('another job gets what is other than before; places are those of the repository', async () => {
  await write([{ node: 'a', text: TEXT }])
  const failure = { what: 'x', exitCode: 1, where: { file: 'images/web/image.yaml', line: 1, column: 1 } }
  expect(await withRecords(at, { ...web, failure }, {})).toMatchObject({
    lock,
    packages: [{ node: 'a', text: TEXT }],
    failure: { where: { file: 'infra/images/web/image.yaml' } },
  })
  expect(await withRecords(at, web, { web: lock })).toEqual(web)
})
