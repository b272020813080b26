import type { HardeningItem } from '../item.ts'
import { hasLines, setLines } from './config-lines.ts'

const TIMEOUT_SECONDS = 900

/** What people's sessions begin with, and when they end. */
export const SESSIONS: readonly HardeningItem[] = [
  {
    id: 'accounts-umask',
    title: "What users write is not everybody's to read",
    area: 'accounts',
    sources: ['CIS Debian 12 5.4.2.6', 'CIS Debian 12 5.4.3.3', 'dev-sec os-05', 'lynis AUTH-9328'],
    profile: 'baseline',
    measures: {
      files: [
        {
          // Debian 13 gives the umask of login.defs to all that PAM opens. What cron and sudo start, and services of users,
          // must keep the 022 that packages expect.
          path: '/usr/share/pam-configs/imagebuild-umask-jobs',
          content: `Name: Leave jobs and services the usual umask
Default: yes
Priority: 1
Session-Type: Additional
Session:
	optional	pam_umask.so umask=022 nousergroups
`,
        },
        {
          // Sessions of people, after that.
          path: '/usr/share/pam-configs/imagebuild-umask',
          content: `Name: Give sessions the umask of login.defs
Default: yes
Priority: 0
Session-Type: Additional
Session-Interactive-Only: yes
Session:
	optional	pam_umask.so
`,
        },
        { path: '/etc/profile.d/imagebuild-umask.sh', content: 'umask 027\n' },
        {
          // sudo adds the caller's umask to its own: files of packages and services would become unreadable for them.
          path: '/etc/sudoers.d/10-imagebuild-umask',
          content: 'Defaults umask=0022\nDefaults umask_override\n',
          mode: '0440',
        },
      ],
      packages: ['sudo'],
      script: `${setLines('/etc/login.defs', ' ', { UMASK: '027', HOME_MODE: '0700' })}
visudo -cqf /etc/sudoers`,
      pam: ['imagebuild-umask', 'imagebuild-umask-jobs'],
    },
    checks: [
      {
        title: 'A session of PAM has the umask 027',
        kind: 'command',
        command: 'su -s /bin/sh nobody -c umask',
        exit: 0,
        output: '^0?027$',
      },
      {
        title: 'A login shell has the umask 027',
        kind: 'command',
        command: 'env -i HOME=/root sh -lc umask',
        exit: 0,
        output: '^0?027$',
      },
      {
        title: 'New homes are closed to others',
        kind: 'file',
        path: '/etc/login.defs',
        present: true,
        contains: hasLines(' ', { UMASK: '027', HOME_MODE: '0700' }),
      },
      {
        title: 'Jobs and services have the umask 022',
        kind: 'command',
        command: "grep -E '^session.*pam_umask\\.so' /etc/pam.d/common-session-noninteractive | tail -n 1",
        exit: 0,
        output: 'umask=022\\b',
      },
      {
        title: 'What sudo starts has the umask 022',
        kind: 'command',
        command: 'umask 077; sudo -n /bin/sh -c umask',
        exit: 0,
        output: '^0?022$',
      },
    ],
  },
  {
    id: 'accounts-shell-umask',
    title: 'Shells that are no login shells have the umask too',
    area: 'accounts',
    sources: ['CIS Debian 12 5.4.3.3', 'lynis SHLL-6230'],
    profile: 'cis-l1',
    measures: {
      script: `if [ -f /etc/bash.bashrc ]; then
  sed -i -E -e '/^umask[[:space:]]/d' -e '$a\\' /etc/bash.bashrc
  echo 'umask 027' >> /etc/bash.bashrc
fi`,
    },
    checks: [
      {
        kind: 'command',
        command: '[ ! -f /etc/bash.bashrc ] || env -i HOME=/nonexistent bash -ic umask 2>/dev/null',
        exit: 0,
        output: '^0?027$',
      },
    ],
  },
  {
    id: 'accounts-session-timeout',
    title: 'A shell that nobody uses ends after 15 minutes',
    area: 'accounts',
    sources: ['CIS Debian 12 5.4.3.2', 'lynis SHLL-6220'],
    profile: 'cis-l1',
    measures: {
      files: [
        {
          path: '/etc/profile.d/imagebuild-timeout.sh',
          content: `# Read by every login shell, also twice by one.
case "$(readonly -p)" in
*TMOUT=*) ;;
*)
  if [ -n "\${BASH_VERSION-}" ]; then
    typeset -xr TMOUT=${TIMEOUT_SECONDS}
  else
    TMOUT=${TIMEOUT_SECONDS}
    export TMOUT
    readonly TMOUT
  fi
  ;;
esac
`,
        },
      ],
    },
    checks: [
      {
        title: 'bash has the limit, and it cannot be taken back',
        kind: 'command',
        command: `env -i HOME=/root bash -lc '. /etc/profile; echo $TMOUT; (unset TMOUT) 2>/dev/null && exit 1; exit 0'`,
        exit: 0,
        output: `^${TIMEOUT_SECONDS}$`,
      },
      {
        title: 'sh has the limit',
        kind: 'command',
        command: "env -i HOME=/root sh -lc '. /etc/profile; echo $TMOUT'",
        exit: 0,
        output: `^${TIMEOUT_SECONDS}$`,
      },
    ],
  },
]
