import type { HardeningItem } from '../item.ts'

const DATABASE = '/var/lib/aide/aide.db'
const INIT = 'imagebuild-aide-init'

/** What changes only when somebody administers the machine. Data, logs and containers are elsewhere. */
const CONFIGURATION = `# What was there when the machine was new: ${DATABASE}, made on its first boot.
database_in=file:${DATABASE}
database_out=file:${DATABASE}.new
gzip_dbout=yes
report_url=stdout
log_level=warning

Everything = p+ftype+i+l+n+u+g+s+m+c+acl+xattrs+sha512

/boot Everything
/etc Everything
/opt Everything
/root Everything
/usr Everything

# Written by the system itself.
!/etc/(mtab|adjtime|resolv\\.conf|\\.pwd\\.lock|ld\\.so\\.cache)$
!/boot/grub/grubenv$
!/root/\\.(cache|ssh/known_hosts|lesshst|bash_history|viminfo)
!/usr/share/mime/mime\\.cache$
`

const unhurried = `Nice=19
CPUSchedulingPolicy=idle
IOSchedulingClass=idle`

export const INTEGRITY: readonly HardeningItem[] = [
  {
    id: 'integrity-aide',
    title: 'AIDE compares files once a day with what they were when the machine was new',
    area: 'integrity',
    sources: [
      'CIS Debian 12 6.3.1',
      'CIS Debian 12 6.3.2',
      'CIS Debian 12 6.3.3',
      'lynis FINT-4350',
      'lynis FINT-4402',
      'aide.conf(5)',
    ],
    profile: 'cis-l1',
    measures: {
      // Not aide-common: its three hundred files of rules for other people's services take minutes to install.
      packages: ['aide'],
      files: [
        { path: '/etc/aide/aide.conf', content: CONFIGURATION, mode: '0600' },
        {
          path: `/etc/systemd/system/${INIT}.service`,
          content: `[Unit]
Description=First AIDE database of this machine
ConditionPathExists=!${DATABASE}
# What cloud-init does to a new machine is part of it.
After=cloud-final.service

[Service]
# Not oneshot: systemd would call the machine booted only when it has ended.
Type=exec
${unhurried}
ExecStartPre=mkdir -p -m 0700 /var/lib/aide
ExecStart=sh -c 'aide --config /etc/aide/aide.conf --init && mv ${DATABASE}.new ${DATABASE}'
`,
        },
        {
          // A timer, because nothing that boots may wait for it: it reads most of the disk.
          path: `/etc/systemd/system/${INIT}.timer`,
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
        {
          path: '/etc/systemd/system/aidecheck.service',
          content: `[Unit]
Description=Changed files since the AIDE database was made
ConditionPathExists=${DATABASE}

[Service]
Type=exec
${unhurried}
ExecStart=aide --config /etc/aide/aide.conf --check
# Files were added, removed or changed: that is what the report in the journal says.
SuccessExitStatus=1 2 3 4 5 6 7

[Install]
Alias=dailyaidecheck.service
`,
        },
        {
          path: '/etc/systemd/system/aidecheck.timer',
          content: `[Unit]
Description=Changed files since the AIDE database was made

[Timer]
OnCalendar=daily
RandomizedDelaySec=4h
Persistent=true

[Install]
WantedBy=timers.target
`,
        },
      ],
      enable: [`${INIT}.timer`, 'aidecheck.service', 'aidecheck.timer'],
      // The build's own state is nobody's reference.
      atSeal: `systemctl stop ${INIT}.timer aidecheck.timer ${INIT}.service aidecheck.service
rm -f ${DATABASE} ${DATABASE}.new`,
    },
    checks: [
      {
        title: 'Its configuration is valid',
        kind: 'command',
        command: 'aide --config /etc/aide/aide.conf --config-check',
        exit: 0,
      },
      { title: 'It runs every day', kind: 'service', unit: 'aidecheck.timer', state: 'active' },
      {
        title: 'Its database is of this machine: newer than its identity, or still to be made',
        kind: 'command',
        command: `if [ -e ${DATABASE} ]; then [ ${DATABASE} -nt /etc/machine-id ]
else systemctl is-active ${INIT}.timer ${INIT}.service; fi`,
        exit: 0,
      },
    ],
  },
]
