import type { HardeningItem } from '../item.ts'

const DATABASE = '/var/lib/aide/aide.db'
const UNIT = 'imagebuild-aide-init'

export const INTEGRITY: readonly HardeningItem[] = [
  {
    id: 'integrity-aide',
    title: 'AIDE compares files once a day with what they were when the machine was new',
    area: 'integrity',
    sources: ['CIS Debian 12 6.3.1', 'CIS Debian 12 6.3.2', 'lynis FINT-4350', 'aideinit(8)'],
    profile: 'cis-l1',
    measures: {
      packages: ['aide', 'aide-common'],
      files: [
        {
          path: '/etc/aide/aide.conf.d/70_imagebuild_containers',
          content:
            '# Containers change without anybody breaking in.\n!/var/lib/(docker|containerd|containers|nomad|kubelet|lxc)(/|$)\n',
        },
        {
          path: `/etc/systemd/system/${UNIT}.service`,
          content: `[Unit]
Description=First AIDE database of this machine
ConditionPathExists=!${DATABASE}
# What cloud-init does to a new machine is part of it.
After=cloud-final.service

[Service]
Type=oneshot
ExecStart=/usr/sbin/aideinit --yes --force
Nice=19
CPUSchedulingPolicy=idle
IOSchedulingClass=idle
`,
        },
        {
          // A timer, because nothing that boots may wait for it: it reads the whole disk.
          path: `/etc/systemd/system/${UNIT}.timer`,
          content: `[Unit]
Description=First AIDE database of this machine
ConditionPathExists=!${DATABASE}

[Timer]
OnBootSec=3min
AccuracySec=10s

[Install]
WantedBy=timers.target
`,
        },
      ],
      script: `systemctl daemon-reload
systemctl --quiet enable ${UNIT}.timer dailyaidecheck.timer`,
      // The build's own state is nobody's reference.
      atSeal: `systemctl stop ${UNIT}.timer ${UNIT}.service dailyaidecheck.timer dailyaidecheck.service 2>/dev/null || true
rm -f ${DATABASE} ${DATABASE}.new /var/lib/aide/aide.db* /var/log/aide/*`,
    },
    checks: [
      {
        title: 'Its configuration is valid',
        kind: 'command',
        command: 'aide --config /etc/aide/aide.conf --config-check',
        exit: 0,
      },
      { title: 'It runs every day', kind: 'service', unit: 'dailyaidecheck.timer', state: 'active' },
      {
        title: 'Its database is of this machine: newer than its identity, or still to be made',
        kind: 'command',
        command: `if [ -e ${DATABASE} ]; then [ ${DATABASE} -nt /etc/machine-id ]
else systemctl is-active ${UNIT}.timer || [ "$(systemctl show --property ActiveState --value ${UNIT}.service)" = activating ]; fi`,
        exit: 0,
      },
    ],
  },
]
