import type { HardeningItem } from '../item.ts'
import { setLines } from './config-lines.ts'

const JOURNALD = '/etc/systemd/journald.conf'

/** Drop-ins come after the main file, so the last line counts. */
const effective = (name: string) =>
  `systemd-analyze cat-config systemd/journald.conf | grep -E '^${name}=' | tail -n 1`

export const LOGGING: readonly HardeningItem[] = [
  {
    id: 'logging-journal',
    title: 'The journal is kept on disk, compressed, and up to a size',
    area: 'logging',
    sources: ['CIS Debian 12 6.1.1.1', 'CIS Debian 12 6.1.2.3', 'CIS Debian 12 6.1.2.4', 'lynis LOGG-2130'],
    profile: 'baseline',
    measures: {
      // In the main file, where auditors look; a drop-in of the administrator still wins.
      script: `[ -f ${JOURNALD} ] || { mkdir -p /etc/systemd; echo '[Journal]' > ${JOURNALD}; }
${setLines(JOURNALD, '=', { Storage: 'persistent', Compress: 'yes', SystemMaxUse: '500M', SystemKeepFree: '10%' })}
mkdir -p /var/log/journal
systemd-tmpfiles --create --prefix /var/log/journal`,
    },
    checks: [
      { title: 'journald runs', kind: 'service', unit: 'systemd-journald.service', state: 'active' },
      {
        title: 'It keeps its files',
        kind: 'command',
        command: effective('Storage'),
        exit: 0,
        output: '^Storage=persistent$',
      },
      {
        title: 'It compresses',
        kind: 'command',
        command: effective('Compress'),
        exit: 0,
        output: '^Compress=yes$',
      },
      {
        title: 'It has a limit',
        kind: 'command',
        command: effective('SystemMaxUse'),
        exit: 0,
        output: '^SystemMaxUse=[1-9]',
      },
      {
        title: 'Messages are on disk',
        kind: 'command',
        command: 'ls /var/log/journal/$(cat /etc/machine-id)/system.journal',
        exit: 0,
      },
    ],
  },
  {
    id: 'logging-one-system',
    title: 'Messages are kept in one place: in the journal, or by rsyslog where that is installed',
    area: 'logging',
    sources: ['CIS Debian 12 6.1.1.4', 'CIS Debian 12 6.1.2.2', 'CIS Debian 12 6.1.3.3'],
    profile: 'baseline',
    measures: {
      script: `if systemctl --quiet is-enabled rsyslog.service 2>/dev/null; then forward=yes; else forward=no; fi
sed -i -E -e '/^ForwardToSyslog=/d' -e '$a\\' ${JOURNALD}
echo "ForwardToSyslog=$forward" >> ${JOURNALD}`,
    },
    checks: [
      {
        kind: 'command',
        command: `if systemctl --quiet is-enabled rsyslog.service 2>/dev/null; then wanted=yes; else wanted=no; fi
[ "$(${effective('ForwardToSyslog')})" = "ForwardToSyslog=$wanted" ]`,
        exit: 0,
      },
    ],
  },
  {
    id: 'logging-rotation',
    title: 'Log files are rotated, and so never fill the disk',
    area: 'logging',
    sources: ['CIS Debian 12 6.1.3.8', 'lynis LOGG-2146'],
    profile: 'baseline',
    measures: { packages: ['logrotate'], script: 'systemctl --quiet enable logrotate.timer' },
    checks: [
      { title: 'The timer runs', kind: 'service', unit: 'logrotate.timer', state: 'active' },
      {
        title: 'Its configuration is valid',
        kind: 'command',
        command: 'logrotate --debug /etc/logrotate.conf 2>&1',
        exit: 0,
      },
    ],
  },
]
