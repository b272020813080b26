import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Asked, findUpdates, type UpdateQuestion } from '../../src/build/pending-updates.ts'
import type { Event } from '../../src/core/events.ts'
import type { Repository } from '../../src/definition/spec.ts'
import { marksOfUnmended } from '../../src/plan/staleness.ts'
import type { Note } from '../../src/pve/marks.ts'
import { sourceOf } from '../../src/updates/apt-source.ts'
import type { PackageList } from '../../src/updates/package-list.ts'
import { WHERE } from '../plan/spec.ts'
import { type Answer, serveFiles } from '../source/file-server.ts'
import {
  type ArchiveFacts,
  archiveFiles,
  SigningKey,
  serveArchive,
  withEtag,
} from '../updates/signed-archive.ts'

const NOW = new Date('2026-11-30T12:00:00Z')
const IN_RELEASE = '/debian/dists/trixie-security/InRelease'
/** of the archive that `signed-archive.ts` makes */
const DATE = '2026-11-28T09:09:31.000Z'

let key: SigningKey
let stranger: SigningKey
let cacheDir: string
beforeAll(() => {
  key = new SigningKey()
  stranger = new SigningKey()
})
afterAll(() => {
  key[Symbol.dispose]()
  stranger[Symbol.dispose]()
})
beforeEach(() => {
  cacheDir = mkdtempSync(join(tmpdir(), 'imagebuild-pending-'))
})
afterEach(() => rmSync(cacheDir, { recursive: true, force: true }))

const has = (name: string, version: string) => ({
  ...{ name, version, architecture: 'amd64', source: name, sourceVersion: version },
})

function list(url: string, change: Partial<PackageList> = {}): PackageList {
  const name = `deb ${url}/debian trixie-security`
  return {
    image: 'web',
    distribution: { id: 'tiny', version: '1', codename: 'one' },
    architecture: 'amd64',
    sources: [sourceOf({ name, components: ['main'], trust: '' }) ?? []].flat(),
    packages: [{ ...has('openssl', '3.5.0-1'), source: 'openssl-src' }, has('tzdata', '2026b-0+deb13u1')],
    ...change,
  }
}

const repository = (url: string, change: Partial<Repository> = {}): Repository => ({
  ...{ url: `${url}/debian`, suite: 'trixie-security', components: ['main'], isSecurity: true, where: WHERE },
  keyring: readFileSync(key.keyring),
  ...change,
})

function asked(packages: PackageList, repositories: Repository[], note: Partial<Note> = {}): Asked {
  const template = {
    ...({ kind: 'vm', node: 'pve', vmid: 9000, name: 'x' } as const),
    marks: { vmid: 9000, namespace: 'homelab', image: packages.image, state: 'current' },
  } as const
  const recorded = { template, note: note as Note, isRecorded: true, packages }
  return { image: packages.image, repositories, recorded: [recorded] }
}

async function find(images: readonly Asked[], change: Partial<UpdateQuestion> = {}) {
  const events: Event[] = []
  const found = await findUpdates(images, {
    ci: { security: 'any', updates: true },
    mirrors: { debian: {}, ubuntu: {} },
    seen: {},
    now: NOW,
    emit: (event) => events.push(event),
    context: { cacheDir, signal: new AbortController().signal, privateHosts: [] },
    ...change,
  })
  const warnings = events.flatMap((event) => (event.type === 'warning' ? [event.message] : []))
  return { ...found, warnings, of: (image: string) => found.reasons.get(image) ?? [] }
}

/** One image, whose suite is on this server. */
async function of(facts: ArchiveFacts, change: Partial<UpdateQuestion> = {}, signer = key) {
  await using server = await serveArchive(archiveFiles(signer, facts))
  const found = await find([asked(list(server.url), [repository(server.url)])], change)
  return { ...found, url: server.url }
}

const OPENSSL = {
  ...{ kind: 'security', subject: 'openssl', action: 'refresh' },
  text: 'openssl 3.5.0-1 → 3.5.1-1+b1 (trixie-security)',
  update: {
    ...{ package: 'openssl', architecture: 'amd64', installed: '3.5.0-1', available: '3.5.1-1+b1' },
    ...{ suite: 'trixie-security', cves: [] },
  },
}

test('a security update: package, both versions and suite; and when the index was made', async () => {
  const { of: reasons, suites, warnings, url } = await of({})
  expect(reasons('web')).toEqual([OPENSSL])
  expect(suites).toEqual({ [`${url}/debian trixie-security`]: DATE })
  expect(warnings).toEqual([])
})

test('each suite is read once, for all images', async () => {
  await using server = await serveArchive(archiveFiles(key))
  const images = Array.from({ length: 5 }, (_, index) =>
    asked(
      list(server.url, { image: `web-${index}`, ...(index > 2 && { packages: [has('tzdata', '2026a-0')] }) }),
      [repository(server.url)],
    ),
  )
  const { of: reasons } = await find(images)
  expect(images.map(({ image }) => reasons(image).map(({ subject }) => subject))).toEqual([
    ...[['openssl'], ['openssl'], ['openssl']],
    ...[['tzdata'], ['tzdata']],
  ])
  expect(server.requests.map(({ path }) => path.replace(/[0-9a-f]{64}/, '…'))).toEqual([
    IN_RELEASE,
    '/debian/dists/trixie-security/main/binary-amd64/by-hash/SHA256/…',
  ])
})

test('other updates are a reason unless imagebuild.yaml says no', async () => {
  await using server = await serveArchive(archiveFiles(key))
  const image = asked(list(server.url), [repository(server.url, { isSecurity: false })])
  expect((await find([image])).of('web')).toMatchObject([{ kind: 'updates', subject: 'openssl' }])
  expect((await find([image], { ci: { security: 'any', updates: false } })).of('web')).toEqual([])
})

test('what the last rebuild could not bring in is no reason', async () => {
  await using server = await serveArchive(archiveFiles(key))
  const unmended = marksOfUnmended([OPENSSL.update])
  const image = asked(list(server.url), [repository(server.url)], { unmended })
  expect((await find([image])).of('web')).toEqual([])
})

describe('an index that cannot be believed makes nothing stale, and is said', () => {
  const PAST = 'Mon, 30 Nov 2026 11:59:59 UTC'
  test.each<[string, ArchiveFacts, RegExp, Partial<UpdateQuestion>?]>([
    ['expired', { validUntil: PAST }, /has expired/],
    ['of another suite', { fields: '', suite: 'sid' }, /cannot be downloaded/],
  ])('%s', async (_, facts, message, change = {}) => {
    const { of: reasons, warnings, suites, url } = await of(facts, change)
    expect(reasons('web')).toEqual([
      {
        ...{ kind: 'unknown', subject: `${url}/debian trixie-security`, action: 'nothing' },
        text: expect.stringMatching(message),
      },
    ])
    expect(warnings).toEqual([expect.stringMatching(message)])
    expect(suites).toEqual({})
  })

  test('signed with another key', async () => {
    const { of: reasons, warnings } = await of({}, {}, stranger)
    expect(reasons('web')).toMatchObject([{ kind: 'unknown', text: expect.stringContaining('another key') }])
    expect(warnings).toEqual([expect.stringContaining('its updates are not known')])
  })

  test('played again: by the dates that were committed', async () => {
    await using server = await serveArchive(archiveFiles(key))
    const seen = { [`${server.url}/debian trixie-security`]: '2026-11-29T00:00:00Z' }
    const { of: reasons } = await find([asked(list(server.url), [repository(server.url)])], { seen })
    expect(reasons('web')).toMatchObject([
      { kind: 'unknown', text: expect.stringContaining('is older than the last one seen') },
    ])
  })
})

test('a repository counts where the definition names it and the image has it', async () => {
  await using server = await serveArchive(archiveFiles(key))
  const elsewhere = list('http://192.0.2.1')
  const sourceOnly = list(server.url)
  for (const source of sourceOnly.sources) source.types = ['deb-src']
  for (const image of [
    asked(list(server.url), []),
    asked(elsewhere, [repository(server.url)]),
    asked(sourceOnly, [repository(server.url)]),
  ]) {
    expect((await find([image])).of('web')).toMatchObject([
      {
        kind: 'unknown',
        text: 'which suites tiny 1 gets updates from is not known: name them in `updates.repositories`',
      },
    ])
  }
  expect(server.requests).toEqual([])
})

test('an image without dpkg, whose updates nobody knows, is told so, and nothing is asked', async () => {
  const { of: reasons } = await find([asked(list('http://192.0.2.1', { packages: [] }), [])])
  expect(reasons('web')).toMatchObject([
    { kind: 'unknown', subject: 'packages', text: expect.stringContaining('no packages of dpkg') },
  ])
})

describe('a Debian', () => {
  const distribution = { id: 'debian', version: '13', codename: 'trixie' }

  test('has its own suites, from the target’s mirrors, which must be signed with Debian’s keys', async () => {
    const main = await serveArchive(archiveFiles(key, { suite: 'trixie' }))
    await using security = await serveArchive(archiveFiles(key))
    await using _main = main
    const debian = { main: `${main.url}/debian`, security: `${security.url}/debian` }
    const { of: reasons } = await find([asked(list('http://deb.debian.org', { distribution }), [])], {
      mirrors: { debian, ubuntu: {} },
    })
    expect(reasons('web').map(({ kind, subject }) => `${kind} ${subject}`)).toEqual([
      `unknown ${main.url}/debian trixie`,
      `unknown ${main.url}/debian trixie-updates`,
      `unknown ${security.url}/debian trixie-security`,
    ])
    expect(reasons('web')[0]?.text).toContain('was made with another key')
  })

  test('whose code name is none is not looked for on any server', async () => {
    const strange = { ...distribution, codename: '../../other' }
    const { of: reasons } = await find([asked(list('http://192.0.2.1', { distribution: strange }), [])])
    expect(reasons('web')).toMatchObject([{ kind: 'unknown', subject: 'suites' }])
  })

  test('names what an update mends; below the threshold it is no reason', async () => {
    const releases = { trixie: { status: 'resolved', fixed_version: '3.5.1-1', urgency: 'low' } }
    const tracker = Buffer.from(JSON.stringify({ 'openssl-src': { 'CVE-2026-1': { releases } } }))
    const files: Record<string, Answer> = Object.fromEntries(
      Object.entries(archiveFiles(key)).map(([path, data]) => [path, withEtag(data)]),
    )
    await using server = await serveFiles({ ...files, '/tracker': withEtag(tracker) })
    const mirrors = { debian: { main: server.url, security: server.url }, ubuntu: {} }
    const image = asked(list(server.url, { distribution }), [repository(server.url)])
    const look = async (security: UpdateQuestion['ci']['security'], path = '/tracker') => {
      const question = { mirrors, securityData: { debian: `${server.url}${path}` } }
      const found = await find([image], { ...question, ci: { security, updates: true } })
      const told = found.of('web').filter(({ kind }) => kind !== 'unknown')
      return { told: told.map(({ text }) => text), warnings: found.warnings.slice(3) }
    }
    const named = `${OPENSSL.text}, CVE-2026-1`
    expect(await look('any')).toEqual({ told: [named], warnings: [] })
    expect((await look('low')).told).toEqual([named])
    expect((await look('high')).told).toEqual([])
    const asksBefore = server.requests.length
    expect((await look('off')).told).toEqual([])
    expect(server.requests.slice(asksBefore).map(({ path }) => path)).not.toContain('/tracker')
    // Data that is missing excuses nothing.
    const without = await look('high', '/nowhere')
    expect(without.told).toEqual([OPENSSL.text])
    expect(without.warnings).toEqual([expect.stringContaining('every security update counts')])
  })
})
