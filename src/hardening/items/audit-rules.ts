import type { HardeningItem } from '../item.ts'

/** What is recorded: little enough to be read, and nothing that happens all the time. */
const WATCHED: Readonly<Record<string, { sources: string[]; rules: string[] }>> = {
  identity: {
    sources: ['CIS Debian 12 6.2.3.8'],
    rules: ['passwd', 'shadow', 'group', 'gshadow', 'security/opasswd', 'pam.d/'].map(
      (file) => `-w /etc/${file} -p wa`,
    ),
  },
  privileges: {
    sources: ['CIS Debian 12 6.2.3.1'],
    rules: ['-w /etc/sudoers -p wa', '-w /etc/sudoers.d/ -p wa'],
  },
  ssh: { sources: [], rules: ['-w /etc/ssh/ -p wa'] },
  time: {
    sources: ['CIS Debian 12 6.2.3.4'],
    rules: [
      '-a always,exit -F arch=b64 -S clock_settime,settimeofday -F auid>=1000 -F auid!=unset',
      '-w /etc/localtime -p wa',
    ],
  },
  network: {
    sources: ['CIS Debian 12 6.2.3.5'],
    rules: [
      '-a always,exit -F arch=b64 -S sethostname,setdomainname',
      '-w /etc/hosts -p wa',
      '-w /etc/nftables.conf -p wa',
    ],
  },
  apparmor: { sources: ['CIS Debian 12 6.2.3.14'], rules: ['-w /etc/apparmor.d/ -p wa'] },
  modules: {
    sources: ['CIS Debian 12 6.2.3.19'],
    rules: [
      '-a always,exit -F arch=b64 -S init_module,finit_module,delete_module -F auid>=1000 -F auid!=unset',
    ],
  },
}

const RULES = Object.entries(WATCHED).flatMap(([key, { rules }]) => rules.map((rule) => `${rule} -k ${key}`))

/** Level 2 of the benchmark asks for it, Level 1 does not: it is here for what is done with a user's rights. */
export const AUDIT_RULES: readonly HardeningItem[] = [
  {
    id: 'logging-audit',
    title: 'Changes of accounts, privileges, time, network, AppArmor and modules are recorded by auditd',
    area: 'logging',
    sources: [
      'CIS Debian 12 6.2.1.1',
      'CIS Debian 12 6.2.1.2',
      ...Object.values(WATCHED).flatMap(({ sources }) => sources),
      'lynis ACCT-9628',
    ],
    profile: 'cis-l1',
    notApplicable: (machine) =>
      machine.kind === 'lxc'
        ? "the kernel's audit is the node's, and not divided among containers"
        : undefined,
    measures: {
      packages: ['auditd'],
      files: [
        {
          path: '/etc/audit/rules.d/50-imagebuild.rules',
          content: `# Folders that are not there are passed over.\n-i\n${RULES.join('\n')}\n`,
          mode: '0640',
        },
      ],
      enable: ['auditd.service'],
    },
    checks: [
      { title: 'auditd runs', kind: 'service', unit: 'auditd.service', state: 'active' },
      ...Object.keys(WATCHED).map((key) => ({
        title: `The kernel has the rules about ${key}`,
        kind: 'command' as const,
        command: 'auditctl -l',
        exit: 0,
        output: ` (-k |-F key=)${key}$`,
      })),
    ],
  },
]
