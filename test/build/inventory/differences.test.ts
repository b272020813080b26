import { expect, test } from 'vitest'
import { compareManifests, isSame } from '../../../src/build/inventory/differences.ts'
import { formatDifferences } from '../../../src/cli/difference-text.ts'
import { aManifest, aPackage } from './manifests.ts'

const differs = (a: Parameters<typeof aManifest>[0], b: Parameters<typeof aManifest>[0]) =>
  compareManifests(aManifest(a), aManifest(b))

test('two builds of the same differ in nothing, whatever their versions, times and last bytes', () => {
  const later = { version: '20260702.1', built: '2026-07-02T10:00:00.000Z', size: 900 * 2 ** 20 + 4096 }
  const differences = differs({}, later)
  expect(isSame(differences)).toBe(true)
  expect(formatDifferences(differences)).toBe('nothing differs\n')
})

test('packages by Debian’s order of versions', () => {
  const before = [
    ...[aPackage('gone', '1'), aPackage('up', '1:0.9-1'), aPackage('down', '1.0-1')],
    ...[aPackage('rc', '2.0~rc1-1'), aPackage('same', '1'), aPackage('left', '3')],
  ]
  const after = [
    ...[aPackage('new', '1'), aPackage('up', '1:0.10-1'), aPackage('down', '1.0~beta-1')],
    ...[aPackage('rc', '2.0-1'), aPackage('same', '1'), aPackage('left', '3', { status: 'config-files' })],
  ]
  expect(differs({ packages: before }, { packages: after }).packages).toEqual({
    added: [{ name: 'new', version: '1' }],
    removed: [
      { name: 'gone', version: '1' },
      { name: 'left', version: '3' },
    ],
    upgraded: [
      { name: 'rc', before: '2.0~rc1-1', after: '2.0-1' },
      { name: 'up', before: '1:0.9-1', after: '1:0.10-1' },
    ],
    downgraded: [{ name: 'down', before: '1.0-1', after: '1.0~beta-1' }],
  })
})

test('a package for two architectures is two, one that becomes independent of them is the same', () => {
  const libc = (architecture: string, version = '2') => aPackage('libc6', version, { architecture })
  const both = differs({ packages: [libc('amd64')] }, { packages: [libc('amd64'), libc('i386')] })
  expect(both.packages.added).toEqual([{ name: 'libc6:i386', version: '2' }])
  const all = differs({ packages: [libc('amd64')] }, { packages: [libc('all', '3')] })
  expect(all.packages).toMatchObject({ added: [], removed: [], upgraded: [{ name: 'libc6' }] })
})

test('values, ports, privileged files, units, users, kernels and size, for people', () => {
  const differences = differs(
    {},
    {
      packages: [aPackage('dash', '0.5.12-3'), aPackage('nginx', '1.22.1-9')],
      sshd: { port: ['22'], acceptenv: ['LANG'], maxauthtries: ['3'] },
      sysctl: {
        'kernel.kptr_restrict': { configured: '2', effective: '1' },
        'kernel.sysrq': { effective: '0' },
      },
      ports: [
        { protocol: 'tcp', address: '0.0.0.0', port: 22, processes: ['sshd'] },
        { protocol: 'tcp', address: '::', port: 80, processes: ['nginx'] },
      ],
      privileged: [
        { path: '/usr/bin/ping', capabilities: 'cap_net_raw=ep' },
        { path: '/usr/bin/su', mode: '4750', owner: 'root:adm' },
      ],
      units: { 'ssh.service': 'masked' },
      users: [],
      kernels: ['6.1.0-38-amd64'],
      size: 960 * 2 ** 20,
    },
  )
  expect(isSame(differences)).toBe(false)
  expect(formatDifferences(differences)).toBe(`packages: 1 added, 1 removed, 1 upgraded
  + nginx  1.22.1-9
  - zstd   1.5.4+dfsg2-5
  ↑ dash   0.5.12-2 → 0.5.12-3

system: 1 changed
  ~ kernels  6.1.0-37-amd64 → 6.1.0-38-amd64

sshd: 1 added, 1 removed, 1 changed
  ~ acceptenv        LANG, LC_* → LANG
  + maxauthtries     3
  - permitrootlogin  no

sysctl: 2 changed
  ~ kernel.kptr_restrict  2 → 1 (configured: 2)
  ~ kernel.sysrq          438 → 0

listening ports: 1 added
  + tcp [::]:80  nginx

setuid, setgid and capabilities: 1 added, 1 changed
  + /usr/bin/ping  cap_net_raw=ep
  ~ /usr/bin/su    4755 root:root → 4750 root:adm

units: 1 changed
  ~ ssh.service  enabled → masked

users with a login shell: 1 removed
  - root  uid 0, /bin/bash

size: 900 → 960 MiB
`)
})

test('where one could not tell, nothing is said of it but that', () => {
  const differences = differs({ sshd: null, packages: null, capabilitiesRead: false }, {})
  expect(differences).toMatchObject({ sshd: [], unknown: ['capabilities of files', 'packages', 'sshd'] })
  expect(Object.values(differences.packages).flat()).toEqual([])
  expect(formatDifferences(differences)).toBe(
    'not compared, since one of the two does not tell: capabilities of files, packages, sshd\n',
  )
  expect(differs({ sshd: null }, { sshd: null }).unknown).toEqual([])
})

test('a container has no kernel of its own: what is configured counts', () => {
  const container = (value: string) => ({
    kind: 'lxc' as const,
    sysctl: { 'vm.swappiness': { configured: value } },
  })
  expect(differs(container('10'), container('60')).sysctl).toEqual([
    { name: 'vm.swappiness', before: '10', after: '60' },
  ])
})

test('files of layers: the lines that differ, where they are known', () => {
  const files = [
    { path: '/etc/a', before: '0644 root:root sha256:0123456789', after: null },
    {
      path: '/etc/b',
      before: '0644 root:root sha256:01',
      after: '0644 root:root sha256:02',
      lines: '-x\n+y',
    },
  ]
  expect(formatDifferences({ ...differs({}, {}), files })).toBe(
    'files of layers: 1 removed, 1 changed\n  - /etc/a  0644 root:root sha256:01234567…\n  ~ /etc/b\n      -x\n      +y\n',
  )
})
