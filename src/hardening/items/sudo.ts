import type { HardeningItem } from '../item.ts'

export const SUDO: readonly HardeningItem[] = [
  {
    id: 'sudo-terminal',
    title: 'What sudo starts has a terminal of its own, and cannot type into the caller’s',
    area: 'sudo',
    sources: ['CIS Debian 12 5.2.1', 'CIS Debian 12 5.2.2'],
    profile: 'baseline',
    measures: {
      packages: ['sudo'],
      files: [{ path: '/etc/sudoers.d/10-imagebuild-terminal', content: 'Defaults use_pty\n', mode: '0440' }],
      script: 'visudo -cqf /etc/sudoers',
    },
    checks: [
      {
        title: 'sudo runs commands in a pseudo terminal',
        kind: 'command',
        command: 'sudo -V',
        exit: 0,
        output: '^Always run commands in a pseudo-tty$',
      },
      { title: 'sudo is there', kind: 'package', package: 'sudo', installed: true },
    ],
  },
  {
    id: 'sudo-log',
    title: 'sudo keeps a log of its own',
    area: 'sudo',
    sources: ['CIS Debian 12 5.2.3'],
    profile: 'baseline',
    measures: {
      packages: ['sudo'],
      files: [
        {
          path: '/etc/sudoers.d/10-imagebuild-log',
          content: 'Defaults logfile="/var/log/sudo.log", loglinelen=0\n',
          mode: '0440',
        },
        {
          path: '/etc/logrotate.d/imagebuild-sudo',
          content: '/var/log/sudo.log {\n\tmonthly\n\trotate 12\n\tcompress\n\tmissingok\n\tnotifempty\n}\n',
        },
      ],
      script: 'visudo -cqf /etc/sudoers',
    },
    checks: [
      {
        kind: 'command',
        command:
          'mark="imagebuild-check-$$"; sudo -n true "$mark" && grep -c "COMMAND=.*$mark" /var/log/sudo.log',
        exit: 0,
        output: '^[1-9]',
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
        command: 'sudo -V',
        exit: 0,
        output: '^Authentication timestamp timeout: 5\\.0 minutes$',
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
