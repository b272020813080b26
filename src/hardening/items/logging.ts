import type { HardeningItem } from '../item.ts'
import { hasLines, setLines } from './config-lines.ts'
import { dropInPath, effective, effectiveLine, lastDropIn } from './systemd-settings.ts'

const MAIN_FILE = '/etc/systemd/journald.conf'

const JOURNAL = { Storage: 'persistent', Compress: 'yes', SystemMaxUse: '500M', SystemKeepFree: '10%' }

/** What each of them is for. */
const MEANING: Readonly<Record<string, string>> = {
  Storage: 'It keeps its files',
  Compress: 'It compresses',
  SystemMaxUse: 'It has a limit',
  SystemKeepFree: 'It leaves room for others',
}

const FORWARDING = dropInPath('journald', 'forwarding')

/** Sets $forward to what ForwardToSyslog must be. */
const WHETHER_TO_FORWARD =
  'if systemctl --quiet is-enabled rsyslog.service 2>/dev/null; then forward=yes; else forward=no; fi'

/** What the main file says of each item that is applied. */
function mainFileParts(applied: ReadonlySet<string>) {
  const journal = {
    title: 'How the journal is kept stands there',
    script: setLines(MAIN_FILE, '=', JOURNAL),
    contains: hasLines('=', JOURNAL),
  }
  const forwarding = {
    title: 'Whether messages are forwarded stands there',
    script: `${WHETHER_TO_FORWARD}
sed -i -E -e '/^ForwardToSyslog=/d' -e '$a\\' ${MAIN_FILE}
echo "ForwardToSyslog=$forward" >> ${MAIN_FILE}`,
    contains: '^ForwardToSyslog=(yes|no)$',
  }
  return [
    ...(applied.has('logging-journal') ? [journal] : []),
    ...(applied.has('logging-one-system') ? [forwarding] : []),
  ]
}

export const LOGGING: readonly HardeningItem[] = [
  {
    id: 'logging-journal',
    title: 'The journal is kept on disk, compressed, and up to a size',
    area: 'logging',
    sources: ['CIS Debian 12 6.1.1.1', 'CIS Debian 12 6.1.2.3', 'CIS Debian 12 6.1.2.4', 'lynis LOGG-2130'],
    profile: 'baseline',
    measures: {
      files: [
        lastDropIn('journald', 'journal', {
          ...{ section: 'Journal', settings: JOURNAL },
          comment: 'To change it, write a file here whose name sorts after this one: zzz-….conf.',
        }),
      ],
      script: `mkdir -p /var/log/journal
systemd-tmpfiles --create --prefix /var/log/journal`,
    },
    checks: [
      { title: 'journald runs', kind: 'service', unit: 'systemd-journald.service', state: 'active' },
      ...effective('journald', JOURNAL, (key) => MEANING[key] ?? key),
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
      script: `${WHETHER_TO_FORWARD}
mkdir -p "$(dirname ${FORWARDING})"
printf '[Journal]\\nForwardToSyslog=%s\\n' "$forward" > ${FORWARDING}`,
    },
    checks: [
      {
        kind: 'command',
        command: `${WHETHER_TO_FORWARD}
[ "$(${effectiveLine('journald', 'ForwardToSyslog')})" = "ForwardToSyslog=$forward" ]`,
        exit: 0,
      },
    ],
  },
  {
    id: 'logging-journal-main-file',
    title: "journald's main file says the same as what counts, since scanners read only that",
    area: 'logging',
    sources: ['CIS Debian 12 6.1.2.2 to 6.1.2.4', 'CIS Debian 13 6.1.1.1.4 to 6.1.1.1.6'],
    profile: 'cis-l1',
    measures: (_, applied) => {
      const parts = mainFileParts(applied).map(({ script }) => script)
      return parts.length === 0
        ? {}
        : { script: [`[ -f ${MAIN_FILE} ] || echo '[Journal]' > ${MAIN_FILE}`, ...parts].join('\n') }
    },
    checks: (_, applied) =>
      mainFileParts(applied).map(({ title, contains }) => ({
        ...{ title, kind: 'file', path: MAIN_FILE, present: true, contains },
      })),
  },
  {
    id: 'logging-rotation',
    title: 'Log files are rotated, and so never fill the disk',
    area: 'logging',
    sources: ['CIS Debian 12 6.1.3.8', 'lynis LOGG-2146'],
    profile: 'baseline',
    measures: { packages: ['logrotate'], enable: ['logrotate.timer'] },
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
