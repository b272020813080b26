import type { HardeningItem } from '../item.ts'
import { hasLines, setLines } from './config-lines.ts'

/** Times in seconds; faillock.conf(5). */
const LIMITS = { deny: 4, unlock_time: 900, fail_interval: 900 } as const

export const FAILLOCK: readonly HardeningItem[] = [
  {
    id: 'accounts-faillock',
    title: 'An account is locked for 15 minutes after four wrong passwords',
    area: 'accounts',
    sources: ['CIS Debian 12 5.3.2.2', 'CIS Debian 12 5.3.3.1.1', 'CIS Debian 12 5.3.3.1.2'],
    profile: 'baseline',
    measures: {
      // Two profiles: before pam_unix, and after it. Success of pam_unix jumps over what comes after it in its block; it is
      // the account phase that forgets the failures then. authsucc stands where the manual page has it.
      files: [
        {
          path: '/usr/share/pam-configs/imagebuild-faillock',
          content: `Name: Count wrong passwords
Default: yes
Priority: 0
Auth-Type: Primary
Auth:
	[default=die]	pam_faillock.so authfail
	sufficient	pam_faillock.so authsucc
`,
        },
        {
          path: '/usr/share/pam-configs/imagebuild-faillock-notify',
          content: `Name: Refuse locked accounts
Default: yes
Priority: 1024
Auth-Type: Primary
Auth:
	required	pam_faillock.so preauth
Account-Type: Primary
Account:
	required	pam_faillock.so
`,
        },
      ],
      script: setLines('/etc/security/faillock.conf', ' = ', LIMITS),
      pam: ['imagebuild-faillock', 'imagebuild-faillock-notify'],
    },
    checks: [
      {
        title: 'The limits are set',
        kind: 'file',
        path: '/etc/security/faillock.conf',
        present: true,
        contains: hasLines(' = ', LIMITS),
      },
      {
        title: 'Wrong passwords are counted',
        kind: 'file',
        path: '/etc/pam.d/common-auth',
        present: true,
        contains:
          '^auth\\s+required\\s+pam_faillock\\.so preauth[\\s\\S]*pam_unix\\.so[\\s\\S]*^auth\\s+\\[default=die\\]\\s+pam_faillock\\.so authfail',
      },
      {
        title: 'Locked accounts are refused, and failures forgotten after success',
        kind: 'file',
        path: '/etc/pam.d/common-account',
        present: true,
        contains: '^account\\s+required\\s+pam_faillock\\.so',
      },
    ],
  },
]
