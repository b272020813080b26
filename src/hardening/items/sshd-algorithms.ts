import type { HardeningItem, MachineTraits } from '../item.ts'

const POLICY = 'ssh-audit policy “Hardened Debian 12 (version 2)”'
const POST_QUANTUM_POLICY = 'ssh-audit policy “Hardened Debian 13 (version 1)”'

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
/** The same: the policy for post-quantum key exchange has the longer one first. */
const MACS_POST_QUANTUM = [
  'hmac-sha2-512-etm@openssh.com',
  'hmac-sha2-256-etm@openssh.com',
  'umac-128-etm@openssh.com',
]
/** What a quantum computer does not break, in the order of the policy; OpenSSH 9.2 knows the last of them alone. */
const KEX_POST_QUANTUM = [
  'mlkem768x25519-sha256',
  'sntrup761x25519-sha512',
  'sntrup761x25519-sha512@openssh.com',
]
/** Known from OpenSSH 9.9 on, and first among what it offers by itself. One that does not know it refuses its name. */
const NEWEST_KEX = 'mlkem768x25519-sha256'
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

const macs = ({ postQuantum }: MachineTraits) => (postQuantum ? MACS_POST_QUANTUM : MACS)

/** Keywords of sshd_config. */
export function algorithms(machine: MachineTraits) {
  return {
    KexAlgorithms: KEX.join(','),
    Ciphers: CIPHERS.join(','),
    MACs: macs(machine).join(','),
    HostKeyAlgorithms: HOST_KEYS.join(','),
  } as const
}

const DROP_IN = '/etc/ssh/sshd_config.d/10-imagebuild-algorithms.conf'
const POST_QUANTUM_DROP_IN = '/etc/ssh/sshd_config.d/09-imagebuild-post-quantum.conf'

/** A command that puts what this machine's OpenSSH knows of newer key exchange first in a file. */
export function newestKexFirst(file: string): string {
  return `if ssh -Q kex | grep -qxF ${NEWEST_KEX}; then sed -i 's/^KexAlgorithms /&${NEWEST_KEX},/' ${file}; fi`
}

/** What may stand before the list then, as a regular expression. */
export const NEWEST_KEX_PREFIX = `(?:${NEWEST_KEX},)?`

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
    measures: (machine) => ({
      files: [
        {
          path: DROP_IN,
          content: Object.entries(algorithms(machine))
            .map(([keyword, list]) => `${keyword} ${list}\n`)
            .join(''),
          mode: '0600',
        },
      ],
      script: newestKexFirst(DROP_IN),
    }),
    checks: (machine) => [
      ...(machine.postQuantum
        ? []
        : ([
            {
              title: 'Key exchange',
              kind: 'sshd',
              keyword: 'kexalgorithms',
              value: `${NEWEST_KEX_PREFIX}${literal(KEX)}`,
            },
            {
              title: `${NEWEST_KEX} comes first, where sshd knows it`,
              kind: 'command',
              command: `! ssh -Q kex | grep -qxF ${NEWEST_KEX} || PATH=$PATH:/usr/sbin:/sbin sshd -T | grep '^kexalgorithms ${NEWEST_KEX},'`,
              exit: 0,
            },
          ] as const)),
      { title: 'Ciphers', kind: 'sshd', keyword: 'ciphers', value: literal(CIPHERS) },
      { title: 'Message authentication', kind: 'sshd', keyword: 'macs', value: literal(macs(machine)) },
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
    sources: ['OpenSSH sshd_config(5) KexAlgorithms', POST_QUANTUM_POLICY],
    profile: 'baseline',
    notApplicable: ({ postQuantum }: MachineTraits) =>
      postQuantum ? undefined : 'the definition does not ask for it: hardening.postQuantum',
    measures: {
      // At the very end: the build itself could not log in any more. Sorts before the file that has the others.
      atSeal: `known=$(ssh -Q kex)
kex=
for one in ${KEX_POST_QUANTUM.join(' ')}; do
  if printf '%s\\n' "$known" | grep -qxF "$one"; then kex=\${kex:+$kex,}$one; fi
done
[ -n "$kex" ] || { echo 'this OpenSSH knows no post-quantum key exchange' >&2; exit 1; }
printf 'KexAlgorithms %s\\n' "$kex" > ${POST_QUANTUM_DROP_IN}
chmod 0600 ${POST_QUANTUM_DROP_IN}
mkdir -p /run/sshd
sshd -t`,
    },
    checks: [
      {
        kind: 'command',
        // All of it that this sshd knows, in the order of the policy, and nothing else.
        command: `PATH=$PATH:/usr/sbin:/sbin; known=$(ssh -Q kex)
wanted=$(for one in ${KEX_POST_QUANTUM.join(' ')}; do printf '%s\\n' "$known" | grep -xF "$one"; done | paste -sd ,)
sshd -T | grep '^kexalgorithms ' && sshd -T | grep -qxF "kexalgorithms $wanted"`,
        exit: 0,
        output: '^kexalgorithms (mlkem|sntrup)',
      },
    ],
  },
]
