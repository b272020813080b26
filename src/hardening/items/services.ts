import type { HardeningItem } from '../item.ts'

/** Clients and servers that send passwords in the clear or trust whom they cannot know. Debian's package names. */
const INSECURE = [
  'atftpd',
  'ftp',
  'inetutils-ftp',
  'inetutils-inetd',
  'inetutils-talk',
  'inetutils-telnet',
  'inetutils-telnetd',
  'nis',
  'openbsd-inetd',
  'rsh-client',
  'rsh-redone-client',
  'rsh-redone-server',
  'rsh-server',
  'talk',
  'talkd',
  'telnet',
  'telnet-ssl',
  'telnetd',
  'telnetd-ssl',
  'tftpd',
  'tftpd-hpa',
  'tnftp',
  'xinetd',
  'yp-tools',
  'ypbind-mt',
  'ypserv',
] as const

const INSTALLED = (packages: readonly string[]) =>
  `dpkg-query -W -f='\${db:Status-Abbrev} \${Package}\\n' ${packages.join(' ')} 2>/dev/null | sed -n 's/^.i. *//p'`

/**
 * Services that a server has for its purpose, or not at all. Nothing is removed: a definition that installs one wants it,
 * and says so by switching off the item, with the reason.
 */
const PURPOSES: readonly (readonly [
  id: string,
  what: string,
  number: string,
  packages: readonly string[],
])[] = [
  ['automounter', 'mounts media as somebody puts them in', '2.1.1', ['autofs']],
  ['avahi', 'announces itself in the local network', '2.1.2', ['avahi-daemon']],
  [
    ...(['dhcp', 'gives out addresses', '2.1.3'] as const),
    ['isc-dhcp-server', 'kea', 'kea-dhcp4-server', 'kea-dhcp6-server', 'kea-dhcp-ddns-server'],
  ],
  ['dns', 'answers for names', '2.1.4', ['bind9']],
  ['dnsmasq', 'gives out addresses or answers for names', '2.1.5', ['dnsmasq']],
  ['ftp', 'serves files by FTP', '2.1.6', ['vsftpd', 'proftpd-core', 'pure-ftpd']],
  ['ldap', 'serves a directory', '2.1.7', ['slapd']],
  ['mailboxes', 'serves mailboxes', '2.1.8', ['dovecot-core', 'cyrus-imapd']],
  ['nfs', 'serves files by NFS', '2.1.9', ['nfs-kernel-server']],
  ['printing', 'prints', '2.1.11', ['cups', 'cups-daemon']],
  ['rpcbind', 'serves remote procedure calls', '2.1.12', ['rpcbind']],
  ['samba', 'serves files by SMB', '2.1.14', ['samba']],
  ['snmp', 'is asked by SNMP', '2.1.15', ['snmpd']],
  ['proxy', 'is a web proxy', '2.1.17', ['squid']],
  ['web', 'serves web pages', '2.1.18', ['apache2', 'nginx', 'nginx-core', 'lighttpd']],
  ['desktop', 'shows windows', '2.1.20', ['xserver-xorg-core', 'xserver-common', 'gdm3']],
  ['ldap-client', 'asks directories', '2.2.5', ['ldap-utils']],
]

export const SERVICES: readonly HardeningItem[] = [
  {
    id: 'services-insecure',
    title: 'Nothing is there that sends passwords in the clear: telnet, ftp, rsh, talk, NIS, tftp, inetd',
    area: 'services',
    sources: [
      'CIS Debian 12 2.1.10',
      'CIS Debian 12 2.1.16',
      'CIS Debian 12 2.1.19',
      'CIS Debian 12 2.2.1 to 2.2.4',
      'CIS Debian 12 2.2.6',
      'lynis INSE-8300 to INSE-8342',
    ],
    profile: 'baseline',
    forbids: INSECURE,
    measures: {
      script: `installed=$(${INSTALLED(INSECURE)})
if [ -n "$installed" ]; then
  # shellcheck disable=SC2086 # one package a line
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 purge $installed
fi`,
    },
    checks: [
      {
        title: 'No such package is installed',
        kind: 'command',
        command: `${INSTALLED(INSECURE)} | grep .`,
        exit: 1,
      },
      ...[21, 23, 512, 513, 514].map((port) => ({
        title: `Nothing listens at port ${port}`,
        kind: 'port' as const,
        port,
        protocol: 'tcp' as const,
        listening: false,
      })),
    ],
  },
  {
    id: 'services-mail-local',
    title: 'Mail is taken from this machine alone',
    area: 'services',
    sources: ['CIS Debian 12 2.1.21'],
    profile: 'cis-l1',
    measures: {},
    checks: [
      {
        kind: 'command',
        command:
          "ss -Hltn '( sport = :25 or sport = :465 or sport = :587 )' | grep -vE '(127\\.0\\.0\\.1|\\[::1\\]):[0-9]+ '",
        exit: 1,
      },
    ],
  },
  {
    id: 'services-rsync',
    title: 'Nothing serves files by rsync: it is not installed, or its daemon is masked',
    area: 'services',
    sources: ['CIS Debian 12 2.1.13'],
    profile: 'cis-l1',
    forbids: ['rsync'],
    measures: {
      // Ubuntu's server images have it, as a tool.
      script: `[ -z "$(${INSTALLED(['rsync'])})" ] || systemctl --quiet mask --now rsync.service`,
    },
    checks: [
      {
        kind: 'command',
        command: `[ -z "$(${INSTALLED(['rsync'])})" ] || systemctl is-enabled rsync.service | grep -x masked`,
        exit: 0,
      },
    ],
  },
  ...PURPOSES.map(
    ([id, what, number, packages]): HardeningItem => ({
      id: `services-${id}`,
      title: `Nothing is installed that ${what}`,
      area: 'services',
      sources: [`CIS Debian 12 ${number}`],
      profile: 'cis-l1',
      forbids: packages,
      measures: {},
      checks: [{ kind: 'command', command: `${INSTALLED(packages)} | grep .`, exit: 1 }],
    }),
  ),
]
