import type { HardeningItem, MachineTraits } from '../item.ts'

const ofTheNode = (machine: MachineTraits): string | undefined =>
  machine.kind === 'lxc' ? 'a container cannot load modules: its node decides' : undefined

interface Refused {
  id: string
  title: string
  sources: readonly string[]
  profile: HardeningItem['profile']
  modules: readonly string[]
}

/**
 * Never among them: vfat (the EFI system partition), squashfs (snap), overlay, bridge and br_netfilter (containers), udf
 * and iso9660 (disks that bring cloud-init's data).
 */
const REFUSED: readonly Refused[] = [
  {
    id: 'modules-filesystems',
    title: 'File systems that no server mounts cannot be loaded',
    sources: [...[1, 2, 3, 4, 5].map((n) => `CIS Debian 12 1.1.1.${n}`), 'dev-sec os-10', 'lynis FILE-6430'],
    profile: 'baseline',
    modules: ['cramfs', 'freevxfs', 'hfs', 'hfsplus', 'jffs2'],
  },
  {
    id: 'modules-protocols',
    title: 'Rare network protocols cannot be loaded',
    sources: [
      ...[1, 2, 3, 4].map((n) => `CIS Debian 12 3.2.${n}`),
      ...[1, 2].map((n) => `CIS Debian 13 3.2.${n}`),
      'lynis NETW-3200',
    ],
    profile: 'baseline',
    modules: ['atm', 'can', 'dccp', 'rds', 'sctp', 'tipc'],
  },
  {
    id: 'modules-removable-disks',
    title: 'Disks on USB and FireWire cannot be attached',
    sources: ['CIS Debian 12 1.1.1.9', 'CIS Debian 13 1.1.1.9', 'lynis USB-1000', 'lynis STRG-1846'],
    profile: 'cis-l1',
    modules: ['usb-storage', 'uas', 'firewire-core', 'firewire-ohci', 'firewire-sbp2'],
  },
]

export const MODULES: readonly HardeningItem[] = REFUSED.map(({ id, title, sources, profile, modules }) => {
  const loaded = modules.map((name) => name.replaceAll('-', '_')).join('|')
  return {
    id,
    title,
    area: 'kernel',
    sources,
    profile,
    notApplicable: ofTheNode,
    measures: {
      files: [
        {
          path: `/etc/modprobe.d/${id}.conf`,
          content: [
            `# ${title}: neither by name (install) nor because a device asks for it (blacklist).`,
            ...modules.flatMap((name) => [`install ${name} /bin/false`, `blacklist ${name}`]),
            '',
          ].join('\n'),
        },
      ],
    },
    checks: [
      {
        title: `modprobe refuses ${modules.join(', ')}`,
        kind: 'command',
        command: [
          'modprobe --version >/dev/null || exit 3',
          `for name in ${modules.join(' ')}; do`,
          `  modprobe --showconfig | grep -qE "^install $(echo $name | tr - _) /bin/false$" || echo "$name"`,
          'done | grep .',
        ].join('\n'),
        exit: 1,
      },
      {
        title: `None of ${modules.join(', ')} is loaded`,
        kind: 'command',
        command: `grep -E '^(${loaded}) ' /proc/modules`,
        exit: 1,
      },
    ],
  }
})
