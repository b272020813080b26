import type { HardeningItem, ItemCheck } from '../item.ts'

/** Seen before a login, so it must not say what system this is. */
const BANNER = `This is a private system: only who is authorized may use it.
All access is logged and monitored, and the records may be given as evidence.
Whoever goes on agrees to these terms; everybody else must disconnect now.
`

/**
 * Mode that a file may have at most, and its owner, unless another item gives it another. Missing files are fine: many are
 * the copies that tools make.
 */
const DATABASES: readonly (readonly [path: string, mode: string, owner: string, other?: string])[] = [
  ['/etc/passwd', '644', 'root:root'],
  ['/etc/passwd-', '644', 'root:root'],
  ['/etc/group', '644', 'root:root'],
  ['/etc/group-', '644', 'root:root'],
  ['/etc/shadow', '640', 'root:shadow'],
  ['/etc/shadow-', '640', 'root:shadow'],
  ['/etc/gshadow', '640', 'root:shadow'],
  ['/etc/gshadow-', '640', 'root:shadow', 'files-account-copies'],
  ['/etc/shells', '644', 'root:root'],
  ['/etc/security/opasswd', '600', 'root:root'],
  ['/etc/security/opasswd.old', '600', 'root:root'],
]

const COPIES = 'imagebuild-account-copies'

const CRON = ['hourly', 'daily', 'weekly', 'monthly', 'yearly', 'd'].map((name) => `/etc/cron.${name}`)

/** Asked only where the file is there; without an owner, of its mode alone. */
function atMost(path: string, mode: string, owner?: string): ItemCheck {
  return {
    title: `${path} has at most the mode ${mode}${owner === undefined ? '' : `, and the owner ${owner}`}`,
    kind: 'file',
    path,
    mode,
    ...(owner !== undefined && { owner }),
  }
}

/** Layers of containers and images of systems: users and modes in them are those of another system. */
const OTHER_SYSTEMS = [
  'containerd',
  'containers',
  'docker',
  'incus',
  'kubelet',
  'lxc',
  'lxd',
  'machines',
  'rancher',
  'snapd',
].map((name) => `/var/lib/${name}`)

/**
 * Of the root file system alone: what is mounted below it belongs to others, and so does lost+found in an unprivileged
 * container.
 */
const FIND_IN_ROOT = `find / -xdev \\( ${['/lost+found', ...OTHER_SYSTEMS].map((path) => `-path ${path}`).join(' -o ')} \\) -prune -o`

/** One pass for three checks; what vanishes meanwhile is no matter. */
const EVERYBODYS = `${FIND_IN_ROOT} \\( ${[
  "-type f -perm -0002 -printf 'writable %p\\n'",
  "-type d -perm -0002 ! -perm -1000 -printf 'not-sticky %p\\n'",
  "\\( -nouser -o -nogroup \\) -printf 'ownerless %p\\n'",
].join(' , ')} \\) || true`

export const FILES: readonly HardeningItem[] = [
  {
    id: 'files-banners',
    title: 'Before a login stands who may use the system, not what system it is',
    area: 'files',
    sources: ['CIS Debian 12 1.6.1 to 1.6.6', 'lynis BANN-7126', 'lynis BANN-7130'],
    profile: 'baseline',
    measures: {
      files: [
        { path: '/etc/issue', content: BANNER },
        { path: '/etc/issue.net', content: BANNER },
      ],
      script: `if [ -f /etc/motd ] && [ ! -L /etc/motd ]; then
  chown root:root /etc/motd
  chmod u-x,go-wx /etc/motd
fi`,
    },
    checks: [
      {
        title: 'On consoles',
        kind: 'file',
        path: '/etc/issue',
        present: true,
        mode: '644',
        owner: 'root:root',
        contains: 'authorized',
        lacks: '\\\\[mrsv]|Debian|Ubuntu',
      },
      {
        title: 'Over the network',
        kind: 'file',
        path: '/etc/issue.net',
        present: true,
        mode: '644',
        owner: 'root:root',
        contains: 'authorized',
        lacks: '\\\\[mrsv]|Debian|Ubuntu',
      },
      {
        title: 'The message of the day names no version',
        kind: 'command',
        command: "[ -e /etc/motd ] && grep -E '\\\\[mrsv]|(Debian|Ubuntu)[^.]* [0-9]+' /etc/motd",
        exit: 1,
      },
      atMost('/etc/motd', '644', 'root:root'),
    ],
  },
  {
    id: 'files-accounts',
    title: 'The files of users, groups and passwords are only written by root',
    area: 'files',
    sources: ['CIS Debian 12 7.1.1 to 7.1.10', 'dev-sec os-02', 'dev-sec os-03', 'lynis FILE-7524'],
    profile: 'baseline',
    measures: {
      script: DATABASES.map(
        ([path, mode, owner]) =>
          `if [ -e '${path}' ]; then chown ${owner} '${path}'; chmod ${mode} '${path}'; fi`,
      ).join('\n'),
    },
    checks: DATABASES.map(([path, mode, owner, other]) =>
      atMost(path, mode, other === undefined ? owner : undefined),
    ),
  },
  {
    id: 'files-account-copies',
    title: 'The backup copies of shadow and gshadow have the mode 0000',
    area: 'files',
    // The benchmark asks for 0640 at most, its profile for OpenSCAP for 0000.
    sources: ['CIS Debian 13 7.1.6', 'CIS Debian 13 7.1.8'],
    profile: 'cis-l1',
    measures: {
      files: [
        {
          path: `/etc/systemd/system/${COPIES}.service`,
          content: `[Unit]
Description=Mode 0000 for the backup copies of shadow and gshadow
# cloud-init makes accounts on a first boot.
After=cloud-init.service cloud-init-network.service

[Service]
Type=oneshot
# Changes nothing that is right already: a change would start it again.
ExecStart=/usr/bin/find /etc -maxdepth 1 -name gshadow- ! -group root -exec chgrp root {} +
ExecStart=/usr/bin/find /etc -maxdepth 1 ( -name shadow- -o -name gshadow- ) -perm /0777 -exec chmod 0000 {} +

[Install]
WantedBy=multi-user.target
`,
        },
        {
          path: `/etc/systemd/system/${COPIES}.path`,
          content: `[Unit]
Description=Watch for new backup copies of shadow and gshadow

[Path]
PathModified=/etc/shadow-
PathModified=/etc/gshadow-

[Install]
WantedBy=paths.target
`,
        },
      ],
      enable: [`${COPIES}.service`, `${COPIES}.path`],
    },
    checks: [
      {
        title: 'The copies that are there have the mode 0000',
        kind: 'command',
        // A change of an account makes them anew, and the unit needs a moment.
        command: `for second in 1 2 3 4 5 6 7 8 9 10; do wrong=$(find /etc/shadow- /etc/gshadow- -perm /0777 2>/dev/null); [ -n "$wrong" ] || exit 0; sleep 1; done; echo "$wrong"; exit 1`,
        exit: 0,
      },
      { title: 'New copies are watched for', kind: 'service', unit: `${COPIES}.path`, state: 'active' },
    ],
  },
  {
    id: 'files-cron',
    title: 'What cron runs is for root to read and write',
    area: 'files',
    sources: ['CIS Debian 12 2.4.1.2 to 2.4.1.7', 'CIS Debian 13 2.4.1.7', 'lynis FILE-7524'],
    profile: 'baseline',
    measures: {
      script: `if [ -f /etc/crontab ]; then chown root:root /etc/crontab; chmod 0600 /etc/crontab; fi
for folder in ${CRON.join(' ')}; do
  [ -d "$folder" ] || continue
  chown root:root "$folder"
  chmod 0700 "$folder"
done`,
    },
    checks: [
      atMost('/etc/crontab', '600', 'root:root'),
      ...CRON.map((folder) => atMost(folder, '700', 'root:root')),
    ],
  },
  {
    id: 'files-cron-allow',
    title: 'Only root gives jobs to cron and at',
    area: 'files',
    sources: ['CIS Debian 12 2.4.1.8', 'CIS Debian 12 2.4.2.1', 'lynis SCHD-7720'],
    profile: 'cis-l1',
    measures: {
      files: [
        { path: '/etc/cron.allow', content: 'root\n', mode: '0640' },
        { path: '/etc/at.allow', content: 'root\n', mode: '0640' },
      ],
      script: 'rm -f /etc/cron.deny /etc/at.deny',
    },
    checks: ['cron', 'at'].flatMap((name): ItemCheck[] => [
      {
        title: `${name}: root is allowed`,
        kind: 'file',
        path: `/etc/${name}.allow`,
        present: true,
        mode: '640',
        owner: 'root:root',
        lacks: '^(?!root$).+',
      },
      {
        title: `${name}: there is no list of who is not`,
        kind: 'file',
        path: `/etc/${name}.deny`,
        present: false,
      },
    ]),
  },
  {
    id: 'files-boot-loader',
    title: "The boot loader's configuration is for root to read",
    area: 'files',
    sources: ['CIS Debian 12 1.4.2', 'lynis FILE-7524'],
    profile: 'baseline',
    notApplicable: ({ kind }) => (kind === 'lxc' ? 'a container has no boot loader' : undefined),
    measures: {
      files: [
        {
          // Older grub-mkconfig replaces the file, readable for all, whenever a kernel is installed; this runs after it.
          // That of Debian 12 and 13 writes into the file that is there, whose mode so outlives upgrades of grub as well.
          path: '/etc/kernel/postinst.d/zzz-imagebuild-grub-mode',
          content: '#!/bin/sh\nset -e\n[ ! -f /boot/grub/grub.cfg ] || chmod 0600 /boot/grub/grub.cfg\n',
          mode: '0755',
        },
        {
          path: '/etc/kernel/postrm.d/zzz-imagebuild-grub-mode',
          content: '#!/bin/sh\nset -e\n[ ! -f /boot/grub/grub.cfg ] || chmod 0600 /boot/grub/grub.cfg\n',
          mode: '0755',
        },
      ],
      script: '[ ! -f /boot/grub/grub.cfg ] || chmod 0600 /boot/grub/grub.cfg',
    },
    checks: [atMost('/boot/grub/grub.cfg', '600', 'root:root')],
  },
  {
    id: 'files-owned',
    title: 'Every file has an owner, and none is everybody’s to write',
    area: 'files',
    sources: ['CIS Debian 12 7.1.11', 'CIS Debian 12 7.1.12', 'lynis FILE-6344'],
    profile: 'baseline',
    measures: {
      script: `${FIND_IN_ROOT} \\( -type f -perm -0002 -exec chmod o-w {} + , -type d -perm -0002 ! -perm -1000 -exec chmod +t {} + \\)`,
    },
    checks: [
      {
        title: 'No file is for everybody to write',
        kind: 'command',
        command: EVERYBODYS,
        exit: 0,
        lacks: '^writable ',
      },
      {
        title: 'In folders that are for everybody, nobody removes the files of others',
        kind: 'command',
        command: EVERYBODYS,
        exit: 0,
        lacks: '^not-sticky ',
      },
      {
        title: 'User and group of every file are there',
        kind: 'command',
        command: EVERYBODYS,
        exit: 0,
        lacks: '^ownerless ',
      },
    ],
  },
]
