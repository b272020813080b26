import type { HardeningItem } from '../item.ts'

/**
 * Ubuntu 26.04 has sudo-rs for sudo, which reads the same rules and tells less of itself; its first versions say on
 * stderr who they are.
 */
const byImplementation = (rust: string, classic: string) =>
  `if sudo -V 2>&1 | grep -q '^sudo-rs'; then ${rust}; else ${classic}; fi`

const TERMINAL_RULE = '/etc/sudoers.d/10-imagebuild-terminal'
const LOG_RULE = '/etc/sudoers.d/10-imagebuild-log'
const LOG = '/var/log/sudo.log'

export const SUDO: readonly HardeningItem[] = [
  {
    id: 'sudo-terminal',
    title: 'What sudo starts has a terminal of its own, and cannot type into the caller’s',
    area: 'sudo',
    sources: ['CIS Debian 12 5.2.1', 'CIS Debian 12 5.2.2'],
    profile: 'baseline',
    measures: {
      packages: ['sudo'],
      files: [{ path: TERMINAL_RULE, content: 'Defaults use_pty\n', mode: '0440' }],
      // Not all rules: the next item's may still be one that sudo-rs does not know.
      script: `visudo -cqf ${TERMINAL_RULE}`,
    },
    checks: [
      {
        title: 'sudo runs commands in a pseudo terminal',
        kind: 'command',
        // sudo-rs does it unless it is told not to.
        command: byImplementation(
          "! grep -rhE '^[^#]*!use_pty' /etc/sudoers /etc/sudoers.d",
          "sudo -V | grep -x 'Always run commands in a pseudo-tty'",
        ),
        exit: 0,
      },
      { title: 'sudo is there', kind: 'package', package: 'sudo', installed: true },
    ],
  },
  {
    id: 'sudo-log',
    title: 'sudo keeps a log of its own; sudo-rs, which has none, writes to the journal',
    area: 'sudo',
    sources: ['CIS Debian 12 5.2.3'],
    profile: 'baseline',
    measures: {
      packages: ['sudo'],
      files: [
        {
          path: LOG_RULE,
          content: `Defaults logfile="${LOG}", loglinelen=0\n`,
          mode: '0440',
        },
        {
          path: '/etc/logrotate.d/imagebuild-sudo',
          content: `${LOG} {\n\tmonthly\n\trotate 12\n\tcompress\n\tmissingok\n\tnotifempty\n}\n`,
        },
      ],
      // To sudo-rs the rule is a mistake, which it would tell with each command.
      script: `${byImplementation(`rm -f ${LOG_RULE}`, ':')}
visudo -cqf /etc/sudoers`,
    },
    checks: [
      {
        kind: 'command',
        command: `mark="imagebuild-check-$$"; sudo -n true "$mark" || exit 1
${byImplementation(
  'journalctl --sync; journalctl --quiet --since=-5min --output=cat --grep="COMMAND=.*$mark"',
  `grep "COMMAND=.*$mark" ${LOG}`,
)}`,
        exit: 0,
        output: 'COMMAND=',
      },
    ],
  },
  {
    id: 'sudo-authenticate',
    title: 'Whoever gives sudo a password gives it again after five minutes',
    area: 'sudo',
    sources: ['CIS Debian 12 5.2.5', 'CIS Debian 12 5.2.6'],
    profile: 'baseline',
    measures: {
      packages: ['sudo'],
      files: [
        {
          path: '/etc/sudoers.d/10-imagebuild-authenticate',
          content: 'Defaults timestamp_timeout=5\n',
          mode: '0440',
        },
      ],
      script: 'visudo -cqf /etc/sudoers',
    },
    checks: [
      {
        title: 'The time is limited',
        kind: 'command',
        command: byImplementation(
          "[ \"$(grep -rhE '^[[:space:]]*Defaults[^#]*timestamp_timeout' /etc/sudoers /etc/sudoers.d)\" = 'Defaults timestamp_timeout=5' ]",
          "sudo -V | grep -x 'Authentication timestamp timeout: 5\\.0 minutes'",
        ),
        exit: 0,
      },
      {
        title: 'Nobody is let off altogether',
        kind: 'command',
        command: "grep -rhE '^[^#]*!authenticate' /etc/sudoers /etc/sudoers.d",
        exit: 1,
      },
    ],
  },
  {
    id: 'sudo-files',
    title: "sudo's rules are root's to read",
    area: 'sudo',
    sources: ['lynis AUTH-9250', 'lynis AUTH-9252'],
    profile: 'baseline',
    measures: {
      packages: ['sudo'],
      script:
        'chown root:root /etc/sudoers /etc/sudoers.d\nchmod 0440 /etc/sudoers\nchmod 0750 /etc/sudoers.d',
    },
    checks: [
      {
        title: 'The file',
        kind: 'file',
        path: '/etc/sudoers',
        present: true,
        mode: '440',
        owner: 'root:root',
      },
      {
        title: 'The folder',
        kind: 'file',
        path: '/etc/sudoers.d',
        present: true,
        mode: '750',
        owner: 'root:root',
      },
      {
        title: 'No rule is for others to read or write',
        kind: 'command',
        command: 'find /etc/sudoers.d -type f -perm /0137 | grep .',
        exit: 1,
      },
      { title: 'They are valid', kind: 'command', command: 'visudo -cqf /etc/sudoers', exit: 0 },
    ],
  },
]
