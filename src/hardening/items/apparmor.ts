import type { HardeningItem, MachineTraits } from '../item.ts'

const ofTheNode = (machine: MachineTraits): string | undefined =>
  machine.kind === 'lxc' ? 'the node confines the container as a whole, with the profile of LXC' : undefined

const LOADED = '/sys/kernel/security/apparmor/profiles'

/** For sed -E: the line by which a profile begins that confines nothing; its name, quoted or not, is \2 or \3. */
const DECLARED_UNCONFINED =
  '^[[:space:]]*profile[[:space:]]+("([^"]+)"|([^[:space:]"]+))[[:space:]].*flags=\\([^)]*unconfined[^)]*\\).*$'

export const APPARMOR: readonly HardeningItem[] = [
  {
    id: 'apparmor',
    title: 'AppArmor confines the programs that have a profile',
    area: 'kernel',
    sources: ['CIS Debian 12 1.3.1.1', 'CIS Debian 12 1.3.1.3', 'lynis MACF-6208'],
    profile: 'baseline',
    notApplicable: ofTheNode,
    measures: { packages: ['apparmor'], enable: ['apparmor.service'] },
    checks: [
      {
        title: 'The kernel has it switched on',
        kind: 'file',
        path: '/sys/module/apparmor/parameters/enabled',
        present: true,
        contains: '^Y$',
      },
      {
        title: 'Profiles are loaded',
        kind: 'command',
        command: `grep -cE "\\((enforce|complain)\\)$" ${LOADED}`,
        exit: 0,
        output: '^[1-9]',
      },
      {
        title: 'No profile is loaded and ineffective, but for those that say so themselves',
        kind: 'command',
        // Those of AppArmor 4 for browsers and the like allow user namespaces, and confine nothing by intention.
        command: `declared=$(find /etc/apparmor.d -type f -exec sed -nE 's/${DECLARED_UNCONFINED}/\\2\\3/p' {} +)
grep -vE ' \\((enforce|complain|kill|prompt)\\)$' ${LOADED} | while read -r profile; do
  name=\${profile% (unconfined)}
  if [ "$name" = "$profile" ] || ! printf '%s\\n' "$declared" | grep -qxF -e "$name"; then echo "$profile"; fi
done | grep .`,
        exit: 1,
      },
    ],
  },
  {
    id: 'apparmor-boot',
    title:
      'The boot loader asks for AppArmor, whatever the default of the kernel; the tools for profiles are there',
    area: 'kernel',
    sources: ['CIS Debian 12 1.3.1.1', 'CIS Debian 12 1.3.1.2'],
    profile: 'cis-l1',
    notApplicable: ofTheNode,
    measures: {
      packages: ['apparmor-utils'],
      files: [
        {
          path: '/etc/default/grub.d/50-apparmor.cfg',
          content: 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX apparmor=1 security=apparmor"\n',
        },
      ],
      script: 'update-grub 2>&1',
    },
    checks: [
      {
        title: 'The kernel was started with it',
        kind: 'file',
        path: '/proc/cmdline',
        present: true,
        contains: '\\bapparmor=1 security=apparmor\\b',
      },
      {
        title: 'No entry of the boot loader is without it',
        kind: 'command',
        command:
          "grep -E '^[[:space:]]*linux[[:space:]]' /boot/grub/grub.cfg | grep -v 'apparmor=1 security=apparmor'",
        exit: 1,
      },
      { title: 'The tools are there', kind: 'package', package: 'apparmor-utils', installed: true },
    ],
  },
]
