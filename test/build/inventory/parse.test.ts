import { expect, test } from 'vitest'
import { capabilityText } from '../../../src/build/inventory/capabilities.ts'
import { parseInventory } from '../../../src/build/inventory/parse.ts'

const FACTS: Record<string, string> = {
  'os-release':
    'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n',
  kernels: 'vmlinuz-6.1.0-38-amd64\nvmlinuz-6.1.0-37-amd64\n',
  packages:
    'zstd\t1.5.4\tamd64\tlibzstd\t1.5.4\tinstalled\tinstall\nlibc6\t2.36-9\tamd64\tglibc\t2.36-9\tinstalled\thold\n' +
    'libc6\t2.36-9\ti386\tglibc\t2.36-9\tinstalled\tinstall\nold\t1\tall\told\t1\tconfig-files\tdeinstall\ntzdata\t1\tall\ttzdata\t1\tinstalled\tinstall\nnever\t\t\tnever\t\tnot-installed\tunknown\n',
  automatic:
    'Package: libc6\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: tzdata\nArchitecture: amd64\nAuto-Installed: 1\n\n' +
    'Package: zstd\nArchitecture: amd64\nAuto-Installed: 0\n',
  sshd: 'port 22\nacceptenv LANG\nacceptenv LC_*\nbanner none\nversionaddendum\n',
  'sysctl-configured': 'kernel.sysrq\t438\nkernel.sysrq\t0\nnet.ipv4.ip_forward\t1\n',
  'sysctl-effective': 'kernel.sysrq\t0\nfs.suid_dumpable\t0\n',
  ports:
    '32768\t60999\n' +
    'tcp   LISTEN 0      128          0.0.0.0:22        0.0.0.0:*    users:(("sshd",pid=1,fd=3),("(agetty",pid=7,fd=36))   \n' +
    'udp   UNCONN 0      0      127.0.0.53%lo:53        0.0.0.0:*    users:(("systemd-resolve",pid=2,fd=13))\n' +
    'udp   UNCONN 0      0    192.0.2.7%eth0:68         0.0.0.0:*    users:(("systemd-network",pid=3,fd=1))\n' +
    'udp   UNCONN 0      0   [fe80::1]%eth0:546            [::]:*    users:(("systemd-network",pid=3,fd=2))\n' +
    'tcp   LISTEN 0      5               [::]:50051        [::]:*    users:(("my (svc)",pid=9,fd=1),("my (svc)",pid=8,fd=1))\n' +
    'udp   UNCONN 0      0            0.0.0.0:41234     0.0.0.0:*    users:(("avahi-daemon",pid=4,fd=1))\n' +
    'tcp   LISTEN 0      5                  *:34567           *:*   \n',
  files:
    'setuid\t4755\troot:root\t/usr/bin/su\0capability\t0100000200200000000000000000000000000000\t\t/usr/bin/ping\0' +
    'setuid\t6755\troot:mail\t/opt/a\ttab\nand a line\0capability\t000000020100000001000000\t\t/usr/bin/su\0size\t123456\0',
  units: 'ssh.service          enabled enabled\nfoo.timer  masked  enabled\nbar.service static -\n',
  users:
    'root:x:0:0:root:/root:/bin/bash\nsync:x:4:65534:sync:/bin:/bin/sync\nimagebuild:x:1001:1001::/home/imagebuild:/bin/sh\nann:x:1000:1000::/home/ann:\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n',
  end: '',
}

function told(change: Record<string, string> = {}, codes: Record<string, number> = {}): string {
  return Object.entries({ ...FACTS, ...change })
    .map(([fact, text]) =>
      JSON.stringify({ fact, value: Buffer.from(text).toString('base64'), code: codes[fact] ?? 0 }),
    )
    .join('\n')
}

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
