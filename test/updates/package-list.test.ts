import { expect, test } from 'vitest'
import { ImagebuildError } from '../../src/core/errors.ts'
import { formatPackageList, type PackageList, parsePackageList } from '../../src/updates/package-list.ts'

const installed = (name: string, version = '1', more: object = {}) => ({
  ...{ name, version, architecture: 'amd64', source: name, sourceVersion: version },
  ...more,
})
const source = (more: object = {}) => ({
  ...{ types: ['deb'], uris: ['http://deb.debian.org/debian'], suites: ['trixie'], components: ['main'] },
  ...{ signedBy: ['/usr/share/keyrings/debian-archive-keyring.gpg'], isTrusted: false },
  ...more,
})

const LIST: PackageList = {
  image: 'web',
  distribution: { id: 'debian', version: '13', codename: 'trixie' },
  architecture: 'amd64',
  sources: [
    source({ suites: ['trixie', 'trixie-updates'], components: ['main', 'contrib'] }),
    source({ uris: ['http://x'], suites: ['./'], components: [], signedBy: [], isTrusted: true }),
    source({ uris: ['http://y'], signedBy: [`key sha256:${'0'.repeat(64)}`, '/etc/k.gpg'] }),
  ],
  packages: [
    installed('tzdata', '2026b-0+deb13u1', { architecture: 'all' }),
    installed('libssl3t64', '3.5.1-1+b1', { source: 'openssl', sourceVersion: '3.5.1-1' }),
    installed('libc6', '2.41-12', { architecture: 'i386' }),
    installed('libc6', '2.41-12'),
  ],
}

const TEXT = `# schema: 1
# image: web
# distribution: debian 13 trixie
# architecture: amd64
# apt: deb http://deb.debian.org/debian trixie main contrib; signed by /usr/share/keyrings/debian-archive-keyring.gpg
# apt: deb http://deb.debian.org/debian trixie-updates main contrib; signed by /usr/share/keyrings/debian-archive-keyring.gpg
# apt: deb http://x ./; not signed
# apt: deb http://y trixie main; signed by key sha256:${'0'.repeat(64)}, /etc/k.gpg

libc6 2.41-12 amd64 libc6
libc6 2.41-12 i386 libc6
libssl3t64 3.5.1-1+b1 amd64 openssl=3.5.1-1
tzdata 2026b-0+deb13u1 all tzdata
`

test('is sorted, one line for each package', () => {
  expect(formatPackageList(LIST)).toBe(TEXT)
})

test('the same packages give the same text, in whatever order and form they are told', () => {
  const [first, ...others] = LIST.sources as [PackageList['sources'][0]]
  const apart = first.suites.map((suite) => ({ ...first, suites: [suite] }))
  const again = { ...LIST, sources: [...others, ...apart.reverse()], packages: LIST.packages.toReversed() }
  expect(formatPackageList(again)).toBe(TEXT)
})

test('what was written is read', () => {
  const read = parsePackageList(TEXT)
  expect(read).toEqual({
    ...LIST,
    sources: [
      source({ components: ['main', 'contrib'] }),
      source({ suites: ['trixie-updates'], components: ['main', 'contrib'] }),
      ...LIST.sources.slice(1),
    ],
    packages: LIST.packages.toReversed(),
  })
  expect(formatPackageList(read)).toBe(TEXT)
})

test('a system without dpkg, and without names', () => {
  const bare = {
    ...{ image: 'a', distribution: { id: 'alpine', version: '', codename: '' }, architecture: 'arm64' },
    ...{ sources: [], packages: [] },
  }
  const text = formatPackageList(bare)
  expect(text).toBe('# schema: 1\n# image: a\n# distribution: alpine - -\n# architecture: arm64\n\n')
  expect(parsePackageList(text)).toEqual(bare)
})

test('a guest cannot write more lines, nor into a terminal', () => {
  const text = formatPackageList({
    ...LIST,
    distribution: { id: 'a\n# image: b', version: '\x1b[2J', codename: '' },
    sources: [source({ uris: ['http://x\n# image: c'], signedBy: ['\x9b1m'] })],
    packages: [installed('a\nb 1 amd64 b', '1 2\u202e')],
  })
  expect(text.split('\n').slice(2)).toEqual([
    '# distribution: a?#?image:?b ?[2J -',
    '# architecture: amd64',
    '# apt: deb http://x?# image: c trixie main; signed by ?1m',
    '',
    'a?b?1?amd64?b 1?2? amd64 a?b?1?amd64?b',
    '',
  ])
})

test.each([
  ['', 1, 'its head has no schema'],
  [TEXT.replace('schema: 1', 'schema: 2'), 1, 'it is of schema 2, which only a newer imagebuild can read'],
  [TEXT.replace('# image: web\n', ''), 1, 'its head has no image'],
  [TEXT.replace('# image', '# image: db\n# image'), 3, 'its head has image twice'],
  [TEXT.replace('image: web', 'image: ../web'), 2, '`../web` is none for image'],
  [TEXT.replace(' trixie\n', '\n'), 3, '`debian 13` is none for distribution'],
  [TEXT.replace('# arch', '#arch'), 4, 'a line of its head is not `# key: value`'],
  [TEXT.replace('deb http://x ./', 'deb http://x'), 7, '`deb http://x; not signed` is no source of apt'],
  [TEXT.replace('; not', '; Not'), 7, '`deb http://x ./; Not signed` is no source of apt'],
  [TEXT.replace('openssl=', 'openssl '), 12, '`libssl3t64 3.5.1-1+b1 amd64 openssl 3.5.1-1` is no package'],
  [TEXT.replace('libc6 2', '<<<<<<< HEAD\nlibc6 2'), 10, '`<<<<<<< HEAD` is no package'],
  [TEXT.slice(0, -1), 13, 'it is cut off'],
])('%j is none', (text, line, why) => {
  const error = (() => {
    try {
      return parsePackageList(text, 'web.txt')
    } catch (thrown) {
      return thrown
    }
  })()
  expect(error).toBeInstanceOf(ImagebuildError)
  expect(error).toMatchObject({ code: 'definition_invalid', where: { file: 'web.txt', line }, why })
})
