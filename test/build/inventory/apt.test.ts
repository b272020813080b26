import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { parseApt } from '../../../src/build/inventory/apt.ts'
import { compareManifests, isSame } from '../../../src/build/inventory/differences.ts'
import type { Apt } from '../../../src/build/inventory/manifest.ts'
import { formatDifferences } from '../../../src/cli/difference-text.ts'
import { aManifest } from './manifests.ts'

const SCRIPT = readFileSync(new URL('../../../src/build/inventory/inventory.sh', import.meta.url), 'utf8')

/** What the script's own functions tell of a system with these files. */
function asked(files: Record<string, string>): Apt {
  const root = mkdtempSync(join(tmpdir(), 'imagebuild-apt-'))
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), text)
    }
    const ask = (name: string) => {
      const [body] = new RegExp(`^${name}\\(\\) \\{[\\s\\S]*?^\\}`, 'm').exec(SCRIPT) ?? []
      if (body === undefined) throw new Error(`the script has no ${name}`)
      const here = body.replaceAll(/ \/(etc|usr)\//g, ` ${root}/$1/`)
      const script = `${here}\n${name} || exit 9`
      const told = execFileSync('sh', ['-c', script], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      return told.replaceAll(root, '')
    }
    return parseApt(ask('apt_sources'), ask('apt_keyrings'))
  } finally {
    rmSync(root, { recursive: true })
  }
}

const none = { signedBy: [] as string[], isTrusted: false }

test('lines and deb822 stanzas; what is commented out, disabled, or not read by apt is none', () => {
  const { sources } = asked({
    'etc/apt/sources.list':
      '# deb http://old trixie main\n  deb\thttp://deb.debian.org/debian trixie main contrib # the rest\n\nnonsense\n' +
      'deb [ arch=amd64 signed-by=/etc/apt/keyrings/a.gpg,/b.gpg trusted=yes ] https://me:secret@apt.example.org/x ./',
    'etc/apt/sources.list.d/debian.sources':
      '# words\n\nTypes: deb deb-src\nURIs: mirror+file:/etc/apt/mirrors/debian.list\nSuites: trixie\n trixie-updates\n' +
      '# within\nComponents: main\nsigned-by: /usr/share/keyrings/debian-archive-keyring.gpg\n \t\n' +
      'Types: deb\nURIs: http://off\nSuites: x\nEnabled: no\n\n\nTypes: deb\nURIs: http://on\nSuites: x\nEnabled: yes',
    'etc/apt/sources.list.d/debian.sources.disabled': 'Types: deb\nURIs: http://disabled\nSuites: x\n',
    'etc/apt/sources.list.d/notes.txt': 'deb http://notes trixie main\n',
  })
  expect(sources).toEqual([
    {
      ...{ types: ['deb', 'deb-src'], uris: ['mirror+file:/etc/apt/mirrors/debian.list'] },
      ...{ suites: ['trixie', 'trixie-updates'], components: ['main'] },
      ...{ signedBy: ['/usr/share/keyrings/debian-archive-keyring.gpg'], isTrusted: false },
    },
    {
      ...{ types: ['deb'], uris: ['http://deb.debian.org/debian'], suites: ['trixie'] },
      ...{ components: ['main', 'contrib'], ...none },
    },
    { ...{ types: ['deb'], uris: ['http://on'], suites: ['x'], components: [] }, ...none },
    {
      ...{ types: ['deb'], uris: ['https://apt.example.org/x'], suites: ['./'], components: [] },
      ...{ signedBy: ['/etc/apt/keyrings/a.gpg', '/b.gpg'], isTrusted: true },
    },
  ])
})

test('keyrings that apt trusts, and those that a source names', () => {
  const { keyrings } = asked({
    'etc/apt/trusted.gpg.d/all.asc': 'a',
    'etc/apt/trusted.gpg.d/all.asc.bak': 'b',
    'etc/apt/keyrings/used.gpg': 'c',
    'etc/apt/keyrings/unused.gpg': 'd',
    'usr/share/keyrings/unused.gpg': 'e',
    'etc/apt/sources.list': 'deb [signed-by=/etc/apt/keyrings/used.gpg,/opt/far.gpg] http://a b c\n',
  })
  expect(keyrings).toEqual([
    {
      path: '/etc/apt/keyrings/used.gpg',
      sha256: '2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6',
    },
    {
      path: '/etc/apt/trusted.gpg.d/all.asc',
      sha256: 'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb',
    },
    { path: '/opt/far.gpg', sha256: null },
  ])
})

test('a system without apt’s files has no sources; a key in the source itself is told by its digest', () => {
  expect(asked({})).toEqual({ sources: [], keyrings: [] })
  const stanza = (key: string) =>
    `Types: deb\nURIs: http://a\nSuites: b\nComponents: c\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n ${key}\n`
  const signer = (key: string) =>
    asked({ 'etc/apt/sources.list.d/x.sources': stanza(key) }).sources[0]?.signedBy
  expect(signer('mQ')).toEqual([expect.stringMatching(/^key sha256:[0-9a-f]{64}$/)])
  expect(signer('mQ')).not.toEqual(signer('mR'))
})

const source = { types: ['deb'], uris: ['http://a'], suites: ['b'], components: ['main'], ...none }

test('diff shows another source, another key, and that an earlier manifest does not tell', () => {
  const before: Apt = { sources: [source], keyrings: [{ path: '/k', sha256: 'a'.repeat(64) }] }
  const after: Apt = {
    sources: [
      { ...source, components: ['main', 'contrib'] },
      { ...source, uris: ['http://c'], isTrusted: true },
    ],
    keyrings: [{ path: '/k', sha256: 'b'.repeat(64) }],
  }
  const differences = compareManifests(aManifest({ apt: before }), aManifest({ apt: after }))
  expect(isSame(differences)).toBe(false)
  expect(formatDifferences(differences)).toBe(`apt sources and keyrings: 1 added, 2 changed
  ~ /k              keyring sha256:aaaaaaaa… → keyring sha256:bbbbbbbb…
  ~ deb http://a b  main → main contrib
  + deb http://c b  main, not signed
`)
  expect(isSame(compareManifests(aManifest({ apt: before }), aManifest({ apt: before })))).toBe(true)
  const earlier = compareManifests(aManifest(), aManifest({ apt: after }))
  expect(earlier).toMatchObject({ apt: [], unknown: ['apt sources'] })
  expect(isSame(compareManifests(aManifest(), aManifest()))).toBe(true)
})
