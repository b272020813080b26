import type { HardeningItem } from '../item.ts'
import { hasLines, setLines } from './config-lines.ts'

const AGEING = { PASS_MAX_DAYS: 365, PASS_WARN_AGE: 7 } as const
const INACTIVE_DAYS = 45

/** How passwords are kept, and for how long: those of consoles, `su` and `sudo`, since sshd takes none. */
export const PASSWORDS: readonly HardeningItem[] = [
  {
    id: 'accounts-password-history',
    title: 'The last 24 passwords are not taken again',
    area: 'accounts',
    sources: ['CIS Debian 12 5.3.2.4', 'CIS Debian 12 5.3.3.3.1 to 5.3.3.3.3'],
    profile: 'cis-l1',
    measures: {
      files: [
        {
          // Between pwquality (1024), which asks for the password, and unix (256), which stores it.
          path: '/usr/share/pam-configs/imagebuild-pwhistory',
          content: `Name: Refuse passwords that were used before
Default: yes
Priority: 1000
Password-Type: Primary
Password:
	requisite	pam_pwhistory.so remember=24 enforce_for_root use_authtok
`,
        },
      ],
      packages: ['cracklib-runtime', 'libpam-pwquality'],
      pam: ['imagebuild-pwhistory'],
    },
    checks: [
      {
        kind: 'file',
        path: '/etc/pam.d/common-password',
        present: true,
        contains:
          'pam_pwquality\\.so[\\s\\S]*^password\\s+requisite\\s+pam_pwhistory\\.so remember=24 enforce_for_root use_authtok[\\s\\S]*pam_unix\\.so',
      },
    ],
  },
  {
    id: 'accounts-password-hash',
    title: 'Passwords are stored with yescrypt',
    area: 'accounts',
    sources: ['CIS Debian 12 5.3.3.4.3', 'CIS Debian 12 5.4.1.4', 'lynis AUTH-9230'],
    profile: 'baseline',
    measures: {
      // Tools that do not know YESCRYPT would fall back to DES.
      script: `if grep -q YESCRYPT /etc/login.defs; then
${setLines('/etc/login.defs', ' ', { ENCRYPT_METHOD: 'YESCRYPT' })}fi
${setLines('/etc/login.defs', ' ', { SHA_CRYPT_MIN_ROUNDS: 65536, SHA_CRYPT_MAX_ROUNDS: 65536 })}`,
    },
    checks: [
      {
        title: 'PAM stores passwords with yescrypt',
        kind: 'file',
        path: '/etc/pam.d/common-password',
        present: true,
        contains: 'pam_unix\\.so\\s.*\\byescrypt\\b',
      },
      {
        title: 'Tools that pass PAM by use yescrypt, or many rounds of SHA',
        kind: 'file',
        path: '/etc/login.defs',
        present: true,
        contains: '^SHA_CRYPT_MIN_ROUNDS\\s+65536$',
        lacks: '^ENCRYPT_METHOD\\s+(DES|MD5|SHA256)',
      },
    ],
  },
  {
    id: 'accounts-no-empty-passwords',
    title: 'Nobody logs in with an empty password',
    area: 'accounts',
    sources: ['CIS Debian 12 5.3.3.4.1', 'CIS Debian 12 7.2.2', 'lynis AUTH-9283'],
    profile: 'baseline',
    measures: {
      // pam-auth-update keeps options that were changed in its files. The second line locks what has none.
      script: `sed -i -E '/pam_unix\\.so/s/[[:space:]]nullok\\b//' /etc/pam.d/common-auth /etc/pam.d/common-password
awk -F: '$2 == "" { print $1 }' /etc/shadow | while read -r name; do usermod --lock "$name"; done`,
    },
    checks: [
      {
        title: 'PAM takes no empty password',
        kind: 'command',
        command: "grep -HE '^[^#]*\\bnullok\\b' /etc/pam.d/common-*",
        exit: 1,
      },
      {
        title: 'No account has an empty password',
        kind: 'command',
        command: 'awk -F: \'$2 == "" { print $1; found = 1 } END { exit found }\' /etc/shadow',
        exit: 0,
      },
    ],
  },
  {
    id: 'accounts-password-ageing',
    title: 'Passwords are changed once a year; who has none but a key is not shut out',
    area: 'accounts',
    sources: [
      'CIS Debian 12 5.4.1.1',
      'CIS Debian 12 5.4.1.3',
      'CIS Debian 12 5.4.1.5',
      'CIS Debian 12 5.4.1.6',
      'lynis AUTH-9286',
    ],
    profile: 'cis-l1',
    measures: {
      // useradd gives these days to every new user, also to those with a locked password: no_pass_expiry lets them in by key.
      script: `${setLines('/etc/login.defs', ' ', AGEING)}
useradd -D -f ${INACTIVE_DAYS}
awk -F: '$2 ~ /^[$]/ { print $1 }' /etc/shadow | while read -r name; do
  chage --maxdays ${AGEING.PASS_MAX_DAYS} --warndays ${AGEING.PASS_WARN_AGE} --inactive ${INACTIVE_DAYS} "$name"
done
sed -i -E '/pam_unix\\.so/{/no_pass_expiry/!s/(pam_unix\\.so)/\\1 no_pass_expiry/}' /etc/pam.d/common-account`,
    },
    checks: [
      {
        title: 'New passwords get an end',
        kind: 'file',
        path: '/etc/login.defs',
        present: true,
        contains: hasLines(' ', AGEING),
      },
      {
        title: 'What has ended for long is closed',
        kind: 'command',
        command: 'useradd -D',
        exit: 0,
        output: `^INACTIVE=${INACTIVE_DAYS}$`,
      },
      {
        title: 'No password is older than a year, or from the future',
        kind: 'command',
        command: `awk -F: -v today="$(($(date +%s) / 86400))" '$2 ~ /^[$]/ && ($5 == "" || $5 > ${AGEING.PASS_MAX_DAYS} || $3 > today) { print $1; found = 1 } END { exit found }' /etc/shadow`,
        exit: 0,
      },
      {
        title: 'The end of a password does not shut out who logs in by key',
        kind: 'file',
        path: '/etc/pam.d/common-account',
        present: true,
        contains: '^account\\s.*pam_unix\\.so.*\\bno_pass_expiry\\b',
      },
    ],
  },
]
