import { expect, test } from 'vitest'
import { capabilityText } from '../../../src/build/inventory/capabilities.ts'
import { parseInventory } from '../../../src/build/inventory/parse.ts'
import { told } from './answer.ts'

test('a machine’s answer becomes what a manifest has of it, sorted', () => {
  const found = parseInventory(told(), 'imagebuild')
  expect(found.distribution).toEqual({
    ...{ id: 'debian', version: '12', codename: 'bookworm', name: 'Debian GNU/Linux 12 (bookworm)' },
  })
  expect(found.kernels).toEqual(['6.1.0-37-amd64', '6.1.0-38-amd64'])
  expect(
    found.packages?.map(({ name, architecture, status, manual, held }) =>
      [name, architecture, status, manual, held].join(' '),
    ),
  ).toEqual([
    'libc6 amd64 installed false true',
    'libc6 i386 installed true false',
    'old all config-files false false',
    'tzdata all installed false false',
    'zstd amd64 installed true false',
  ])
  expect(found.packages?.[4]).toMatchObject({ source: 'libzstd', sourceVersion: '1.5.4' })
  expect(found.sshd).toEqual({
    ...{ acceptenv: ['LANG', 'LC_*'], banner: ['none'], port: ['22'], versionaddendum: [''] },
  })
  expect(found.sysctl).toEqual({
    'fs.suid_dumpable': { effective: '0' },
    'kernel.sysrq': { configured: '0', effective: '0' },
    'net.ipv4.ip_forward': { configured: '1' },
  })
  expect(found.units).toEqual({ 'foo.timer': 'masked', 'ssh.service': 'enabled' })
  expect(found.users).toEqual([
    { name: 'ann', uid: 1000, shell: '/bin/sh' },
    { name: 'root', uid: 0, shell: '/bin/bash' },
  ])
  expect(found.size).toBe(123456)
})

test('ports: the build’s own addresses and those that the kernel chose are no property of the image', () => {
  const shown = parseInventory(told(), 'imagebuild').ports?.map(
    ({ protocol, address, port, processes }) => `${protocol} ${address} ${port} ${processes.join('+')}`,
  )
  expect(shown).toEqual([
    'tcp 0.0.0.0 22 sshd',
    'tcp :: 50051 my (svc)',
    'tcp * dynamic ',
    'udp 127.0.0.53 53 systemd-resolve',
    'udp own 68 systemd-network',
    'udp own 546 systemd-network',
    'udp 0.0.0.0 dynamic avahi-daemon',
  ])
})

test('privileged files may have any name, and both kinds of rights', () => {
  expect(parseInventory(told(), 'imagebuild')).toMatchObject({
    privileged: [
      { path: '/opt/a\ttab\nand a line', mode: '6755', owner: 'root:mail' },
      { path: '/usr/bin/ping', capabilities: 'cap_net_raw=ep' },
      { path: '/usr/bin/su', mode: '4755', owner: 'root:root', capabilities: 'cap_chown=ip' },
    ],
    capabilitiesRead: true,
  })
  expect(parseInventory(told({ files: 'size\t1\0no-capabilities\0' }), 'x').capabilitiesRead).toBe(false)
})

test('what a system has nothing to ask for is not known, instead of empty', () => {
  const without = { packages: 127, sshd: 127, ports: 127, units: 1 }
  expect(parseInventory(told({ packages: '', sshd: '', ports: '', units: '' }, without), 'x')).toMatchObject({
    ...{ packages: null, sshd: null, ports: null, units: null },
  })
})

test('an answer that was cut off, and files that nobody could look at, are no inventory', () => {
  const cut = told().split('\n').slice(0, -1).join('\n')
  expect(() => parseInventory(cut, 'x')).toThrow('could not be written down')
  expect(() => parseInventory(told({}, { files: 25 }), 'x')).toThrow('could not be written down')
})

test.each([
  ['0100000200200000000000000000000000000000', 'cap_net_raw=ep'],
  ['0100000200040000000000000000000000000000', 'cap_net_bind_service=ep'],
  // Revision 3 has the owner of a user namespace at its end; bits from 32 on lie in the second pair.
  ['010000030000000000000000c000000000000000e8030000', 'cap_perfmon,cap_bpf=ep'],
  ['000000020000000001000000', 'cap_chown=i'],
])('%s is %s', (hex, text) => {
  expect(capabilityText(hex)).toBe(text)
})
