import { expect, test } from 'vitest'
import type { PackageIndex } from '../../src/updates/package-index.ts'
import { readStanzas } from '../../src/updates/packages-file.ts'
import { datesSeen, type InstalledPackage, pendingUpdates } from '../../src/updates/pending.ts'
import { standardSuites } from '../../src/updates/suite.ts'

const has = (name: string, version: string, change: Partial<InstalledPackage> = {}): InstalledPackage => ({
  ...{ name, version, architecture: 'amd64', source: name, sourceVersion: version, ...change },
})

function index(suite: string, ...offers: readonly (readonly [string, string, string?])[]): PackageIndex {
  const byName = new Map<
    string,
    { version: string; architecture: string; source: string; sourceVersion: string }[]
  >()
  for (const [name, version, architecture = 'amd64'] of offers) {
    const offer = { version, architecture, source: `${name}-src`, sourceVersion: version }
    byName.set(name, [...(byName.get(name) ?? []), offer])
  }
  const isSecurity = suite.endsWith('-security')
  const of = { url: 'http://archive.example.org', components: ['main'], keyrings: [] }
  return { suite: { ...of, suite, isSecurity }, date: new Date('2026-11-28T09:00:00Z'), offers: byName }
}

const shown = (...args: Parameters<typeof pendingUpdates>) =>
  pendingUpdates(...args).map(
    (one) =>
      `${one.package}:${one.architecture} ${one.installed} → ${one.available} ${one.suite}${one.isSecurity ? ' security' : ''}`,
  )

test('by Debian’s order of versions; what is as new, newer, or left over is no update', () => {
  const installed = [
    has('zlib', '1.10'),
    has('apt', '2.9'),
    has('rc', '1.0~rc1'),
    has('epoch', '1:0.1'),
    has('gone', '1', { status: 'config-files' }),
    has('local', '1'),
  ]
  const main = index('trixie', ['zlib', '1.9'], ['apt', '2.10'], ['rc', '1.0'], ['epoch', '9'], ['gone', '2'])
  expect(shown(installed, [main], 'amd64')).toEqual([
    'apt:amd64 2.9 → 2.10 trixie',
    'rc:amd64 1.0~rc1 → 1.0 trixie',
  ])
})

test('security is what a security suite has newer, also where another suite has something newer still', () => {
  const installed = ['both', 'newer', 'plain', 'mended'].map((name) => has(name, '1'))
  const updates = index('trixie-updates', ['both', '2'], ['newer', '3'], ['plain', '2'], ['mended', '2'])
  const security = index('trixie-security', ['both', '2'], ['newer', '2'], ['mended', '1'])
  const expected = [
    'both:amd64 1 → 2 trixie-security security',
    'mended:amd64 1 → 2 trixie-updates',
    'newer:amd64 1 → 3 trixie-updates security',
    'plain:amd64 1 → 2 trixie-updates',
  ]
  expect(shown(installed, [updates, security], 'amd64')).toEqual(expected)
  expect(shown(installed, [security, updates], 'amd64')).toEqual(expected)
})

test('by architecture: what is for all may become the machine’s own, and the other way round', () => {
  const installed = [
    has('libc6', '2'),
    has('libc6', '1', { architecture: 'i386' }),
    has('data', '1', { architecture: 'all' }),
    has('tool', '1'),
  ]
  const main = index('trixie', ['libc6', '2'], ['libc6', '2', 'i386'], ['data', '2'], ['tool', '2', 'all'])
  expect(shown(installed, [main], 'amd64')).toEqual([
    'data:all 1 → 2 trixie',
    'libc6:i386 1 → 2 trixie',
    'tool:amd64 1 → 2 trixie',
  ])
  expect(shown([has('data', '1', { architecture: 'all' })], [main], 'arm64')).toEqual([])
})

test('source packages and dates are kept', () => {
  const main = index('trixie', ['libssl3', '2'])
  const [pending] = pendingUpdates(
    [has('libssl3', '1', { source: 'openssl', sourceVersion: '1-0' })],
    [main],
    'amd64',
  )
  expect(pending?.source).toEqual({ name: 'libssl3-src', installed: '1-0', available: '2' })
  expect(datesSeen([main])).toEqual({ 'http://archive.example.org trixie': '2026-11-28T09:00:00.000Z' })
})

test('a stanza may lie across any border of what is read at once', async () => {
  const text = 'Package: a\nVersion: 1\nArchitecture: all\n\nPackage: b\nVersion: 2\nArchitecture: amd64\n\n'
  for (let cut = 0; cut <= text.length; cut++) {
    const chunks = (async function* () {
      yield Buffer.from(text.slice(0, cut))
      yield Buffer.from(text.slice(cut))
    })()
    const found = await Array.fromAsync(readStanzas(chunks, new Set(['a', 'b'])))
    expect(found.map(({ name, offer }) => name + offer.version)).toEqual(['a1', 'b2'])
  }
})

test('a record of a guest chooses components, and no archive', () => {
  const release = { distribution: 'debian', codename: 'trixie', architecture: 'amd64' } as const
  const suites = standardSuites(release, ['/k'], ['contrib', 'evil', '../x'])
  expect(suites.map(({ url, suite, isSecurity }) => `${url} ${suite} ${isSecurity}`)).toEqual([
    'http://deb.debian.org/debian trixie false',
    'http://deb.debian.org/debian trixie-updates false',
    'http://security.debian.org/debian-security trixie-security true',
  ])
  expect(suites[0]?.components).toEqual(['main', 'contrib'])
  const arm = standardSuites(
    { distribution: 'ubuntu', codename: 'noble', architecture: 'arm64' },
    [],
    ['universe'],
  )
  expect(arm[2]).toMatchObject({ url: 'http://ports.ubuntu.com/ubuntu-ports', suite: 'noble-security' })
  const mirrored = standardSuites({ ...release, distribution: 'ubuntu' }, [], [], {
    main: 'http://m/ubuntu/',
  })
  expect(mirrored.map(({ url }) => url)).toEqual(['http://m/ubuntu', 'http://m/ubuntu', 'http://m/ubuntu'])
})
