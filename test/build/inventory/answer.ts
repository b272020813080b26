/** What inventory.sh finds on a machine. */
export const FACTS: Record<string, string> = {
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

/** What inventory.sh prints. */
export function told(change: Record<string, string> = {}, codes: Record<string, number> = {}): string {
  return Object.entries({ ...FACTS, ...change })
    .map(([fact, text]) =>
      JSON.stringify({ fact, value: Buffer.from(text).toString('base64'), code: codes[fact] ?? 0 }),
    )
    .join('\n')
}
