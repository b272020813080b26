import type { HardeningItem } from '../item.ts'

const optionsOf = (folder: string, options: readonly string[]) =>
  options.map((option) => ({
    title: `${folder} is mounted ${option}`,
    kind: 'command' as const,
    command: `findmnt --noheadings --output OPTIONS --mountpoint ${folder}`,
    exit: 0,
    output: `(^|,)${option}(,|$)`,
  }))

/** What has to do with mounting, and what a template cannot have of it. */
export const MOUNTS: readonly HardeningItem[] = [
  {
    id: 'mounts-shm',
    title: 'Nothing can be executed from shared memory',
    area: 'kernel',
    sources: [1, 2, 3, 4].map((n) => `CIS Debian 12 1.1.2.2.${n}`).concat('lynis FILE-6374'),
    profile: 'baseline',
    notApplicable: (machine) =>
      machine.kind === 'lxc' ? 'the options of its mounts are set by the node' : undefined,
    measures: {
      // systemd mounts it long before it reads fstab, and then applies the options of this line.
      script: `grep -qE '^[^#[:space:]]+[[:space:]]+/dev/shm[[:space:]]' /etc/fstab ||
  echo 'tmpfs /dev/shm tmpfs defaults,nosuid,nodev,noexec 0 0' >> /etc/fstab`,
    },
    checks: optionsOf('/dev/shm', ['nosuid', 'nodev', 'noexec']),
  },
  {
    id: 'mounts-tmp',
    title: '/tmp is a file system of its own, in memory, from which nothing can be executed',
    area: 'kernel',
    sources: [1, 2, 3, 4]
      .map((n) => `CIS Debian 12 1.1.2.1.${n}`)
      .concat('lynis FILE-6310', 'lynis FILE-6374'),
    profile: 'cis-l1',
    notApplicable: (machine) =>
      machine.kind === 'lxc'
        ? 'a container’s /tmp is as its distribution has it: in memory since Debian 13, and that counts against the container’s'
        : undefined,
    measures: {
      files: [
        {
          path: '/etc/systemd/system/tmp.mount.d/options.conf',
          content: '[Mount]\nOptions=mode=1777,strictatime,nosuid,nodev,noexec,size=50%%,nr_inodes=1m\n',
        },
        {
          // Packages' questions are scripts, which apt would unpack in /tmp and execute there.
          path: '/etc/apt/apt.conf.d/50extract-templates',
          content: 'APT::ExtractTemplates::TempDir "/var/cache/apt";\n',
        },
      ],
      // Debian 12 has it as an example. Debian 13 mounts it anyway; there is nothing to enable, and nothing is done.
      // From the next boot on it has these options.
      script: `systemctl cat tmp.mount >/dev/null 2>&1 ||
  cp /usr/share/systemd/tmp.mount /etc/systemd/system/tmp.mount`,
      enable: ['tmp.mount'],
    },
    checks: optionsOf('/tmp', ['nosuid', 'nodev', 'noexec']),
  },
  {
    id: 'mounts-partitions',
    title: '/home, /var, /var/tmp, /var/log and /var/log/audit on partitions of their own',
    area: 'kernel',
    sources: [3, 4, 5, 6, 7]
      .flatMap((n) =>
        (n < 5 ? [1, 2, 3] : [1, 2, 3, 4]).map((option) => `CIS Debian 12 1.1.2.${n}.${option}`),
      )
      .concat('lynis FILE-6310'),
    profile: 'baseline',
    notApplicable: () =>
      'a template has one root file system that grows with its disk: partitions are a matter of who makes the machine',
    measures: {},
    checks: [],
  },
  {
    id: 'boot-password',
    title: 'The boot loader asks for a password before its entries are changed',
    area: 'kernel',
    sources: ['CIS Debian 12 1.4.1', 'lynis BOOT-5122'],
    profile: 'baseline',
    notApplicable: (machine) =>
      machine.kind === 'lxc'
        ? 'a container has no boot loader'
        : 'all clones would share it: who may use the console is decided by Proxmox',
    measures: {},
    checks: [],
  },
]
