import type { HardeningItem } from '../item.ts'
import { effective, lastDropIn } from './systemd-settings.ts'

const NONE = { DefaultLimitCORE: '0' }
const COREDUMP = { Storage: 'none', ProcessSizeMax: '0' }

/** For everybody, and for root: a line for everybody is none for root. */
const LIMITS = ['*', 'root'].flatMap((who) => ['hard', 'soft'].map((type) => `${who} ${type} core 0`))

export const CORE_DUMPS: readonly HardeningItem[] = [
  {
    id: 'kernel-core-dumps',
    title: 'Crashed programs leave no memory image',
    area: 'kernel',
    sources: ['CIS Debian 12 1.5.3', 'CIS Debian 13 1.5.11 to 1.5.13', 'lynis KRNL-5820'],
    profile: 'baseline',
    measures: {
      files: [
        {
          // After those of systemd, which in Debian 13 raise root's limit.
          path: '/etc/security/limits.d/zz-no-core-dumps.conf',
          content: `# Sessions: memory images hold passwords and keys.\n${LIMITS.join('\n')}\n`,
        },
        lastDropIn('system', 'no-core-dumps', { section: 'Manager', settings: NONE, comment: 'Services.' }),
        lastDropIn('user', 'no-core-dumps', {
          ...{ section: 'Manager', settings: NONE },
          comment: 'Services of users, of root too.',
        }),
        lastDropIn('coredump', 'no-core-dumps', {
          ...{ section: 'Coredump', settings: COREDUMP },
          comment: 'Where systemd-coredump is installed.',
        }),
      ],
    },
    checks: [
      ...['nobody', 'root'].map((user) => ({
        title: `A session of ${user} may write none`,
        kind: 'command' as const,
        command: `su -s /bin/sh ${user} -c "ulimit -Hc"`,
        exit: 0,
        output: '^0$',
      })),
      {
        title: 'Services may write none',
        kind: 'command',
        command: 'systemctl show --property DefaultLimitCORE --value',
        exit: 0,
        output: '^0$',
      },
      ...effective('user', NONE, () => 'Services of users may write none'),
      ...effective('coredump', COREDUMP, (key) => `systemd-coredump, if it is installed, keeps none: ${key}`),
    ],
  },
]
