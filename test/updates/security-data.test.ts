import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readSecurityData, type SecurityQuestion } from '../../src/updates/security-data.ts'
import { type Answer, serveFiles } from '../source/file-server.ts'
import { withEtag } from './signed-archive.ts'

const NOW = new Date('2026-11-30T12:00:00Z')

let folder: string
let warnings: string[]
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'imagebuild-security-data-'))
  warnings = []
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const ask = (url: string, change: Partial<SecurityQuestion> = {}) =>
  readSecurityData(
    { distribution: 'debian', codename: 'trixie', version: '13', now: NOW, url: `${url}/data`, ...change },
    {
      cacheDir: join(folder, 'cache'),
      signal: new AbortController().signal,
      onWarning: (line) => warnings.push(line),
    },
  )

/** In the form of https://security-tracker.debian.org/tracker/data/json */
const release = (status: string, fixed_version?: string, urgency = 'not yet assigned') => ({
  trixie: { status, repositories: { trixie: '3.5.0-1' }, ...(fixed_version && { fixed_version }), urgency },
  sid: { status: 'resolved', repositories: { sid: '4' }, fixed_version: '4', urgency: 'high' },
})
const TRACKER = {
  openssl: {
    'CVE-2026-1': {
      description: 'a "quoted" text',
      scope: 'remote',
      releases: release('resolved', '3.5.1-1', 'high'),
    },
    'CVE-2026-2': { releases: release('resolved', '0', 'high') },
    'CVE-2026-3': { releases: release('open', undefined, 'medium') },
    'CVE-2026-4': { releases: release('resolved', '3.5.1-1') },
    'CVE-2026-5': { releases: release('resolved', '3.5.1-1', 'unimportant') },
    'CVE-2026-6': { releases: release('undetermined') },
    'TEMP-1-A': { releases: release('resolved', '3.5.2-1', 'low**') },
  },
  onlysid: {
    'CVE-2026-7': { releases: { sid: { status: 'resolved', fixed_version: '1', urgency: 'low' } } },
  },
}

test('Debian: what is fixed in the release, with its urgency; what never was in it is not', async () => {
  await using server = await serveFiles({ '/data': JSON.stringify(TRACKER) })
  const data = await ask(server.url)
  expect([...(data?.vulnerabilities ?? [])]).toEqual([
    [
      'openssl',
      [
        { id: 'CVE-2026-1', urgency: 'high', fixed: '3.5.1-1' },
        { id: 'CVE-2026-4', urgency: null, fixed: '3.5.1-1' },
        { id: 'CVE-2026-5', urgency: 'negligible', fixed: '3.5.1-1' },
        { id: 'TEMP-1-A', urgency: 'low', fixed: '3.5.2-1' },
      ],
    ],
  ])
  expect(data?.date).toEqual(NOW)
  expect(warnings).toEqual([])
})

/** In the form of Ubuntu's OSV records: priorities for all releases, or in earlier ones for each. */
const range = (fixed?: string) => [
  { type: 'ECOSYSTEM', events: [{ introduced: '0' }, ...(fixed === undefined ? [] : [{ fixed }])] },
]
const RECORDS: Record<string, unknown> = {
  'osv/cve/2026/UBUNTU-CVE-2026-1.json': {
    id: 'UBUNTU-CVE-2026-1',
    severity: [
      { type: 'CVSS_V3', score: 'CVSS:3.1/AV:N' },
      { type: 'Ubuntu', score: 'critical' },
    ],
    affected: [
      { package: { ecosystem: 'Ubuntu:24.04:LTS', name: 'openssl' }, ranges: range('3.0.13-0ubuntu3.5') },
      { package: { ecosystem: 'Ubuntu:22.04:LTS', name: 'openssl' }, ranges: range('3.0.2') },
      { package: { ecosystem: 'Ubuntu:Pro:24.04:LTS', name: 'curl' }, ranges: range('8.5') },
      { package: { ecosystem: 'Ubuntu:24.04:LTS', name: 'unfixed' }, ranges: range() },
    ],
  },
  'osv/cve/2024/CVE-2024-2.json': {
    id: 'CVE-2024-2',
    details: 'x'.repeat(6 * 2 ** 20),
    affected: [
      {
        package: { ecosystem: 'Ubuntu:24.04:LTS', name: 'openssl' },
        ranges: range('3.0.10'),
        ecosystem_specific: { ubuntu_priority: 'medium' },
      },
    ],
  },
  'osv/cve/2024/CVE-2024-3.json': {
    id: 'CVE-2024-3',
    affected: [{ package: { ecosystem: 'Ubuntu:24.04:LTS', name: 'curl' }, ranges: range('8.4') }],
  },
  'osv/usn/USN-1.json': {
    id: 'USN-1',
    affected: [{ package: { ecosystem: 'Ubuntu:24.04:LTS', name: 'bash' }, ranges: range('5') }],
  },
}

function osvArchive(): Buffer {
  const root = join(folder, 'records')
  for (const [path, record] of Object.entries(RECORDS)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), JSON.stringify(record))
  }
  return execFileSync('tar', ['--create', '--xz', '--sort=name', '--directory', root, 'osv'], {
    maxBuffer: 2 ** 26,
  })
}

test('Ubuntu: from the archive of all records, those of the release, without what subscribers get', async () => {
  await using server = await serveFiles({ '/data': osvArchive() })
  const data = await ask(server.url, { distribution: 'ubuntu', codename: 'noble', version: '24.04' })
  expect(warnings).toEqual([])
  expect(Object.fromEntries(data?.vulnerabilities ?? [])).toEqual({
    openssl: [
      { id: 'CVE-2024-2', urgency: 'medium', fixed: '3.0.10' },
      { id: 'CVE-2026-1', urgency: 'critical', fixed: '3.0.13-0ubuntu3.5' },
    ],
    curl: [{ id: 'CVE-2024-3', urgency: null, fixed: '8.4' }],
  })
})

test('the second time the server is asked whether it has changed, and what was made of it is kept', async () => {
  await using server = await serveFiles({ '/data': withEtag(Buffer.from(JSON.stringify(TRACKER))) })
  const first = await ask(server.url)
  const later = new Date('2026-12-01T12:00:00Z')
  const second = await ask(server.url, { now: later })
  expect(second).toEqual({ ...first, date: later })
  expect(server.requests.map(({ headers }) => headers['if-none-match'] !== undefined)).toEqual([false, true])
})

test('where the server cannot be reached: what there was, with its age; or nothing, and both are said', async () => {
  const answers: Record<string, Answer | string> = { '/data': JSON.stringify(TRACKER) }
  await using server = await serveFiles(answers)
  await ask(server.url)
  delete answers['/data']
  const data = await ask(server.url, { now: new Date('2026-12-05T12:00:00Z') })
  expect(data?.date).toEqual(NOW)
  expect(data?.vulnerabilities.get('openssl')).toHaveLength(4)
  expect(warnings).toEqual([expect.stringMatching(/cannot be brought up to date: .*404/)])
  expect(await ask(`${server.url}/other`)).toBeUndefined()
  expect(warnings).toHaveLength(2)
})

test.each(['<html>Sign in</html>', JSON.stringify(TRACKER).slice(0, -20)])(
  'a file that is none is not believed, not kept, and said: %.30s',
  async (text) => {
    await using server = await serveFiles({ '/data': withEtag(Buffer.from(text)) })
    expect(await ask(server.url)).toBeUndefined()
    expect(warnings).toEqual([expect.stringContaining("Debian's security tracker cannot be read")])
    await ask(server.url)
    expect(server.requests[1]?.headers['if-none-match']).toBeUndefined()
  },
)

test.each<Partial<SecurityQuestion>>([
  { codename: '/../../../escaped' },
  { distribution: 'ubuntu', version: '/../../../escaped' },
])('a guest’s os-release names no files: %j', async (change) => {
  await using server = await serveFiles({
    '/data': change.distribution ? osvArchive() : JSON.stringify(TRACKER),
  })
  expect(await ask(server.url, change)).toBeUndefined()
  expect(warnings).toEqual([expect.stringContaining('is no name of a release')])
  expect(server.requests).toEqual([])
  expect(existsSync(join(folder, 'escaped.json'))).toBe(false)
})

test('the cache keeps what came last, whoever asks at the same time', async () => {
  const answers: Record<string, Answer> = {}
  await using server = await serveFiles(answers)
  for (const fixed of ['1', '2', '3']) {
    const tracker = { openssl: { 'CVE-1': { releases: release('resolved', fixed) } } }
    answers['/data'] = withEtag(Buffer.from(JSON.stringify(tracker)))
    const found = await Promise.all([1, 2, 3, 4].map(() => ask(server.url)))
    for (const data of found) expect(data?.vulnerabilities.get('openssl')?.[0]?.fixed).toBe(fixed)
  }
  expect(readdirSync(join(folder, 'cache/files'))).toHaveLength(2)
  expect(warnings).toEqual([])
})

test('what could not be read for want of a tool stays', async () => {
  await using server = await serveFiles({ '/data': withEtag(osvArchive()) })
  const question = { distribution: 'ubuntu', codename: 'noble', version: '24.04' } as const
  const path = process.env.PATH
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  symlinkSync(execFileSync('which', ['flock'], { encoding: 'utf8' }).trim(), join(bin, 'flock'))
  symlinkSync(execFileSync('which', ['cat'], { encoding: 'utf8' }).trim(), join(bin, 'cat'))
  process.env.PATH = bin
  try {
    expect(await ask(server.url, question)).toBeUndefined()
  } finally {
    process.env.PATH = path
  }
  expect(warnings).toEqual([expect.stringContaining('xz')])
  expect((await ask(server.url, question))?.vulnerabilities.size).toBe(2)
  expect(server.requests[1]?.headers['if-none-match']).toBeDefined()
})

test('a record without a date counts for nothing', async () => {
  const answers: Record<string, Answer | string> = { '/data': JSON.stringify(TRACKER) }
  await using server = await serveFiles(answers)
  await ask(server.url)
  const records = join(folder, 'cache/conditional')
  const name = readdirSync(records).find((one) => one.endsWith('.json')) as string
  const record = JSON.parse(readFileSync(join(records, name), 'utf8'))
  writeFileSync(join(records, name), JSON.stringify({ ...record, checked: 'today' }))
  delete answers['/data']
  expect(await ask(server.url)).toBeUndefined()
})
