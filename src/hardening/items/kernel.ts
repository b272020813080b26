import type { HardeningItem, MachineTraits } from '../item.ts'
import { KERNEL_SETTINGS } from './kernel-settings.ts'
import { NETWORK_SETTINGS } from './network-settings.ts'

const ofTheNode = (machine: MachineTraits): string | undefined =>
  machine.kind === 'lxc' ? "a container shares its node's kernel: this is set there" : undefined

/**
 * Sorts after what distributions bring, and after /etc/sysctl.d/99-sysctl.conf, by which systemd reads /etc/sysctl.conf up to
 * Debian 12: the last one wins.
 */
export const sysctlFile = (id: string): string => `/etc/sysctl.d/zz-${id}.conf`

/** They come into force when the machine boots, and it boots at least once more before anybody uses it. */
const SETTINGS: readonly HardeningItem[] = [...KERNEL_SETTINGS, ...NETWORK_SETTINGS].map(
  ({ id, title, sources, profile = 'baseline', values, everyInterface = {}, scope, notApplicable }) => ({
    id,
    title,
    area: 'kernel',
    sources,
    profile,
    notApplicable: (machine) =>
      (scope === 'network' ? undefined : ofTheNode(machine)) ?? notApplicable?.(machine),
    measures: {
      files: [
        {
          path: sysctlFile(id),
          content: [
            `# ${title}.`,
            ...Object.entries({ ...values, ...everyInterface }).map(([key, value]) => `${key} = ${value}`),
            '',
          ].join('\n'),
        },
      ],
    },
    checks: [
      ...Object.entries(values).map(([key, value]) => ({
        title: `${key} is ${value}`,
        kind: 'sysctl' as const,
        key,
        value,
      })),
      ...Object.entries(everyInterface).map(([key, value]) => ({
        title: `${key} is ${value}`,
        kind: 'command' as const,
        // Prints those that differ: 1 is "none", 2 is "no such file".
        command: `grep -Hvx ${value} /proc/sys/${key.replaceAll('.', '/')}`,
        exit: 1,
      })),
    ],
  }),
)

/** The name that OpenSCAP's profile for Debian 13 looks for. */
const REAPPLY = 'sysctl-reapply-network.service'

const NO_ROUTER = sysctlFile('network-forwarding')

export const KERNEL: readonly HardeningItem[] = [
  ...SETTINGS,
  {
    id: 'network-settings-again',
    title: 'Settings of the network are applied once more when its cards are up',
    area: 'kernel',
    sources: ['CIS Debian 13 3.3.1.16', 'CIS Debian 13 3.3.1.17'],
    profile: 'cis-l1',
    measures: {
      files: [
        {
          path: `/etc/systemd/system/${REAPPLY}`,
          content: `[Unit]
Description=Settings of the network, applied once more when its cards are up
After=networking.service systemd-networkd.service network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/lib/systemd/systemd-sysctl --prefix=/net

[Install]
WantedBy=multi-user.target
`,
        },
      ],
      enable: [REAPPLY],
    },
    checks: [{ kind: 'service', unit: REAPPLY, state: 'active' }],
  },
  {
    // The parent of a container host may have been no router.
    id: 'network-container-forwarding',
    title: 'What runs containers may forward their packets, whatever its parent image was',
    area: 'kernel',
    sources: ['kernel Documentation/networking/ip-sysctl.rst: ip_forward'],
    profile: 'baseline',
    notApplicable: ({ containerHost }) => (containerHost ? undefined : 'it runs no containers'),
    measures: { script: `rm -f ${NO_ROUTER}` },
    checks: [{ kind: 'file', path: NO_ROUTER, present: false }],
  },
]
