import type { HardeningItem } from '../item.ts'

export const CORE_DUMPS: readonly HardeningItem[] = [
  {
    id: 'kernel-core-dumps',
    title: 'Crashed programs leave no memory image',
    area: 'kernel',
    sources: ['CIS Debian 12 1.5.3', 'lynis KRNL-5820'],
    profile: 'baseline',
    measures: {
      files: [
        {
          path: '/etc/security/limits.d/50-no-core-dumps.conf',
          content: '# Sessions: memory images hold passwords and keys.\n* hard core 0\n',
        },
        {
          path: '/etc/systemd/system.conf.d/50-no-core-dumps.conf',
          content: '# Services.\n[Manager]\nDefaultLimitCORE=0\n',
        },
        {
          path: '/etc/systemd/coredump.conf.d/50-no-core-dumps.conf',
          content: '# Where systemd-coredump is installed.\n[Coredump]\nStorage=none\nProcessSizeMax=0\n',
        },
      ],
    },
    checks: [
      {
        title: 'A session may write none',
        kind: 'command',
        command: 'su -s /bin/sh nobody -c "ulimit -Hc"',
        exit: 0,
        output: '^0$',
      },
      {
        title: 'Services may write none',
        kind: 'command',
        command: 'systemctl show --property DefaultLimitCORE --value',
        exit: 0,
        output: '^0$',
      },
    ],
  },
]
