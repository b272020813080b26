import type { HardeningItem, MachineTraits } from '../item.ts'

const POLICY = 'ssh-audit policy “Hardened Debian 12 (version 2)”'

/** In the order of preference that the policy has. */
const KEX = [
  'sntrup761x25519-sha512@openssh.com',
  'curve25519-sha256',
  'curve25519-sha256@libssh.org',
  'diffie-hellman-group16-sha512',
  'diffie-hellman-group18-sha512',
  'diffie-hellman-group-exchange-sha256',
]
const CIPHERS = [
  'chacha20-poly1305@openssh.com',
  'aes256-gcm@openssh.com',
  'aes256-ctr',
  'aes192-ctr',
  'aes128-gcm@openssh.com',
  'aes128-ctr',
]
const MACS = ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com', 'umac-128-etm@openssh.com']
/** Certificates first: clients that trust the authority then never ask about a key. */
const HOST_KEYS = [
  'ssh-ed25519-cert-v01@openssh.com',
  'sk-ssh-ed25519-cert-v01@openssh.com',
  'rsa-sha2-512-cert-v01@openssh.com',
  'rsa-sha2-256-cert-v01@openssh.com',
  'ssh-ed25519',
  'sk-ssh-ed25519@openssh.com',
  'rsa-sha2-512',
  'rsa-sha2-256',
]

/** Keywords of sshd_config. */
export const ALGORITHMS = {
  KexAlgorithms: KEX.join(','),
  Ciphers: CIPHERS.join(','),
  MACs: MACS.join(','),
  HostKeyAlgorithms: HOST_KEYS.join(','),
} as const

const literal = (list: readonly string[]) => list.join(',').replaceAll('.', '\\.')

/** Bits, as moduli(5) counts them: one less than the size of the group. */
const MODULUS_BITS = 3071
const MODULI = '/etc/ssh/moduli-3072'

export const SSHD_ALGORITHMS: readonly HardeningItem[] = [
  {
    id: 'sshd-algorithms',
    title: 'sshd offers only algorithms without known weakness, curve25519-sha256 among them',
    area: 'sshd',
    sources: [
      POLICY,
      'CIS Debian 12 5.1.6',
      'CIS Debian 12 5.1.12',
      'CIS Debian 12 5.1.15',
      'dev-sec sshd-01',
      'dev-sec sshd-02',
      'dev-sec sshd-03',
    ],
    profile: 'baseline',
    measures: {
      files: [
        {
          path: '/etc/ssh/sshd_config.d/10-imagebuild-algorithms.conf',
          content: Object.entries(ALGORITHMS)
            .map(([keyword, list]) => `${keyword} ${list}\n`)
            .join(''),
          mode: '0600',
        },
      ],
    },
    checks: ({ postQuantum }) => [
      ...(postQuantum
        ? []
        : [{ title: 'Key exchange', kind: 'sshd', keyword: 'kexalgorithms', value: literal(KEX) } as const]),
      { title: 'Ciphers', kind: 'sshd', keyword: 'ciphers', value: literal(CIPHERS) },
      { title: 'Message authentication', kind: 'sshd', keyword: 'macs', value: literal(MACS) },
      { title: 'Host keys', kind: 'sshd', keyword: 'hostkeyalgorithms', value: literal(HOST_KEYS) },
    ],
  },
  {
    id: 'sshd-moduli',
    title: 'Diffie-Hellman groups have 3072 bits at least',
    area: 'sshd',
    sources: [POLICY, 'dev-sec sshd-48'],
    profile: 'baseline',
    measures: {
      files: [
        {
          path: '/etc/ssh/sshd_config.d/10-imagebuild-moduli.conf',
          content: `ModuliFile ${MODULI}\n`,
          mode: '0600',
        },
      ],
      // A copy: the package's own file can then change with the package.
      script: `awk '$5 >= ${MODULUS_BITS}' /etc/ssh/moduli > ${MODULI}.new
[ -s ${MODULI}.new ]
chmod 0644 ${MODULI}.new
mv ${MODULI}.new ${MODULI}`,
    },
    checks: [
      { title: 'sshd takes them from there', kind: 'sshd', keyword: 'modulifile', value: MODULI },
      {
        title: 'There are groups, and no smaller ones',
        kind: 'command',
        command: `awk '/^[0-9]/ { groups++; if ($5 < ${MODULUS_BITS}) small++ } END { print groups + 0, small + 0 }' ${MODULI}`,
        exit: 0,
        output: '^[1-9][0-9]* 0$',
      },
    ],
  },
  {
    id: 'sshd-post-quantum',
    title: 'sshd offers only key exchange that a quantum computer does not break later',
    area: 'sshd',
    sources: ['OpenSSH sshd_config(5) KexAlgorithms', 'ssh-audit policy “Hardened Debian 13 (version 1)”'],
    profile: 'baseline',
    notApplicable: ({ postQuantum }: MachineTraits) =>
      postQuantum ? undefined : 'the definition does not ask for it: hardening.postQuantum',
    measures: {
      // At the very end: the build itself could not log in any more. Sorts before the file that has the others.
      atSeal: `kex=$(ssh -Q kex | grep -E '^(mlkem|sntrup)' | sort | tr '\\n' ',')
[ -n "$kex" ]
printf 'KexAlgorithms %s\\n' "\${kex%,}" > /etc/ssh/sshd_config.d/09-imagebuild-post-quantum.conf
chmod 0600 /etc/ssh/sshd_config.d/09-imagebuild-post-quantum.conf
mkdir -p /run/sshd
sshd -t`,
    },
    checks: [{ kind: 'sshd', keyword: 'kexalgorithms', value: '(mlkem|sntrup)[^,]*(,(mlkem|sntrup)[^,]*)*' }],
  },
]
