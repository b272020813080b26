import type { HardeningItem } from '../item.ts'
import { hasLines, setLines } from './config-lines.ts'

/** What a password must be: three kinds of four would pass with `minclass = 3`; CIS asks for one of each. */
const QUALITY = {
  difok: 2,
  minlen: 14,
  minclass: 4,
  dcredit: -1,
  ucredit: -1,
  lcredit: -1,
  ocredit: -1,
  maxrepeat: 3,
  maxsequence: 3,
  dictcheck: 1,
  enforcing: 1,
} as const

const QUALITY_SOURCES = [
  'CIS Debian 12 5.3.1.3',
  'CIS Debian 12 5.3.2.3',
  'CIS Debian 12 5.3.3.2.1 to 5.3.3.2.8',
]

export const PASSWORD_QUALITY: readonly HardeningItem[] = [
  {
    id: 'accounts-password-quality',
    title: 'New passwords are long, mixed, and not in a dictionary',
    area: 'accounts',
    sources: [...QUALITY_SOURCES, 'lynis AUTH-9262'],
    profile: 'baseline',
    measures: {
      // Without cracklib-runtime there is no dictionary, and every password is refused.
      packages: ['cracklib-runtime', 'libpam-pwquality'],
      files: [
        {
          path: '/etc/security/pwquality.conf.d/10-imagebuild-hardening.conf',
          content: `${Object.entries(QUALITY)
            .map(([name, value]) => `${name} = ${value}`)
            .join('\n')}\nenforce_for_root\n`,
        },
      ],
      pam: ['pwquality'],
    },
    checks: [
      {
        title: 'PAM asks pam_pwquality about new passwords',
        kind: 'file',
        path: '/etc/pam.d/common-password',
        present: true,
        contains: '^password\\s+requisite\\s+pam_pwquality\\.so',
      },
      {
        title: 'A short password is refused, also when root sets it',
        kind: 'command',
        // The user is root, whose password is not changed by what is refused.
        command: "printf 'Abc-1234\\nAbc-1234\\n' | LC_ALL=C passwd root 2>&1",
        exit: 10,
        output: 'BAD PASSWORD',
      },
    ],
  },
  {
    id: 'accounts-password-quality-main-file',
    title: 'The rules for new passwords also stand in the main file, which is all that scanners read',
    area: 'accounts',
    sources: QUALITY_SOURCES,
    profile: 'cis-l1',
    measures: {
      packages: ['libpam-pwquality'],
      script: `${setLines('/etc/security/pwquality.conf', ' = ', QUALITY)}
sed -i /^enforce_for_root/d /etc/security/pwquality.conf
echo enforce_for_root >> /etc/security/pwquality.conf`,
    },
    checks: [
      {
        kind: 'file',
        path: '/etc/security/pwquality.conf',
        present: true,
        contains: `${hasLines(' = ', QUALITY)}(?=[\\s\\S]*^enforce_for_root$)`,
      },
    ],
  },
]
