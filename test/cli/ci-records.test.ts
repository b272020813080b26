import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  carryOver,
  changeOf,
  committedFiles,
  listsOf,
  type RecordsAt,
  repositoryOf,
  writeRecords,
} from '../../src/cli/ci-records.ts'
import { formatLockfile, type Locked, readLockfile } from '../../src/cli/lockfile.ts'
import { formatPackageList } from '../../src/updates/package-list.ts'

let repository: string
let at: RecordsAt
beforeEach(async () => {
  repository = await mkdtemp(join(tmpdir(), 'imagebuild-records-'))
  await mkdir(join(repository, '.git'))
  await mkdir(join(repository, 'infra/images'), { recursive: true })
  at = { repository, root: join(repository, 'infra'), target: 'home' }
})
afterEach(() => rm(repository, { recursive: true }))

const list = (image: string, version: string) =>
  formatPackageList({
    ...{ image, distribution: { id: 'debian', version: '13', codename: 'trixie' } },
    ...{ architecture: 'amd64', sources: [] },
    packages: [{ name: 'apt', version, architecture: 'amd64', source: 'apt', sourceVersion: version }],
  })
const lock = (version: string, nodes = ['a', 'b']): Locked => ({
  ...{ version, digest: 'sha256:x', kind: 'vm', built: '2026-12-01T00:00:00Z' },
  templates: Object.fromEntries(nodes.map((node, index) => [node, 9000 + index])),
})
const put = (version: string, texts: [string, string][]) =>
  writeRecords(at, 'web', {
    ...{ lock: lock(version), suites: {} },
    lists: texts.map(([node, text]) => ({ node, text })),
  })

test('files have their places in the repository that the project is a folder of', async () => {
  expect(repositoryOf(at.root)).toBe(repository)
  await put('20261201.1', [
    ['a', list('web', '1')],
    ['b', list('web', '2')],
  ])
  const files = await committedFiles(at)
  expect([...files.keys()]).toEqual([
    'infra/imagebuild.lock.json',
    'infra/imagebuild.packages/home/web.txt',
    'infra/imagebuild.packages/home/web@b.txt',
  ])
  expect(await listsOf(at, 'web', ['a', 'b'])).toEqual([
    { node: 'a', text: list('web', '1') },
    { node: 'b', text: list('web', '2') },
  ])
})

test('what has gone is part of a change', () => {
  expect(
    changeOf(
      new Map([
        ['a', '1'],
        ['b', '1'],
      ]),
      new Map([
        ['a', '2'],
        ['c', '1'],
      ]),
    ),
  ).toEqual(
    new Map([
      ['a', '2'],
      ['c', '1'],
      ['b', undefined],
    ]),
  )
})

/** What an open change has, by places in the repository. */
const branch = (files: Record<string, string>) => async (path: string) => files[path]
const LOCK = 'infra/imagebuild.lock.json'
const WEB = 'infra/imagebuild.packages/home/web.txt'

test('what an open change has, and is newer, is taken over with its lists; nothing else is', async () => {
  await put('20261130.1', [['a', list('web', '0')]])
  const theirs = { web: lock('20261201.1'), db: lock('20261201.1', ['a']), '../x': lock('20261201.1') }
  const text = formatLockfile({ schema: 1, targets: { home: theirs, work: { dns: lock('1') } } })
  const files = {
    [LOCK]: text,
    [WEB]: list('web', '1'),
    'infra/imagebuild.packages/home/web@b.txt': list('web', '2'),
    'infra/imagebuild.packages/home/db.txt': 'no list\n',
  }
  expect(await carryOver(at, branch(files))).toEqual(['db', 'web'])
  const { targets } = await readLockfile(at.root)
  expect(targets).toEqual({ home: { db: theirs.db, web: theirs.web } })
  expect((await committedFiles(at)).get(WEB)).toBe(list('web', '1'))
  expect(await listsOf(at, 'web', ['b'])).toEqual([{ node: 'b', text: list('web', '2') }])
  expect(await listsOf(at, 'db', ['a'])).toEqual([])
})

test('an open change that is older than what is here changes nothing', async () => {
  await put('20261201.2', [['a', list('web', '2')]])
  const before = await readFile(join(at.root, 'imagebuild.lock.json'), 'utf8')
  const older = formatLockfile({ schema: 1, targets: { home: { web: lock('20261201.1') } } })
  expect(await carryOver(at, branch({ [LOCK]: older, [WEB]: list('web', '1') }))).toEqual([])
  expect(await carryOver(at, branch({}))).toEqual([])
  expect(await readFile(join(at.root, 'imagebuild.lock.json'), 'utf8')).toBe(before)
  await writeFile(join(at.root, 'other.txt'), '')
})
