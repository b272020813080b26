import type { HardeningItem } from '../item.ts'
import { RELOAD_SSHD } from '../reload-sshd.ts'

const RSA_BITS = 4096
const RSA_KEY = '/etc/ssh/ssh_host_rsa_key'

/** Seconds that the check waits for the key: long where processors are emulated. */
const RSA_SECONDS = 240

export const SSHD_HOST_KEYS: readonly HardeningItem[] = [
  {
    id: 'sshd-host-keys',
    title: 'Each machine makes itself an ed25519 host key, and none of the kinds that nobody should use',
    area: 'sshd',
    sources: [
      'ssh-audit policy “Hardened Debian 12 (version 2)”',
      'CIS Debian 12 5.1.2',
      'CIS Debian 12 5.1.3',
    ],
    profile: 'baseline',
    measures: ({ kind }) => ({
      files: [
        // Read by cloud-init where there is one: in virtual machines, and in containers that have installed it.
        {
          path: '/etc/cloud/cloud.cfg.d/95-imagebuild-host-keys.cfg',
          content: 'ssh_genkeytypes: [ed25519]\n',
        },
        ...(kind === 'lxc'
          ? [
              {
                // A clone of a container makes its keys by this unit, which sealing installs.
                path: '/etc/systemd/system/imagebuild-first-boot.service.d/10-host-keys.conf',
                content: `[Service]
ExecStart=
ExecStart=-systemd-machine-id-setup
ExecStart=/bin/sh -c '[ -e /etc/ssh/ssh_host_ed25519_key ] || exec ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
`,
              },
            ]
          : []),
      ],
      script: 'rm -f /etc/ssh/ssh_host_dsa_key* /etc/ssh/ssh_host_ecdsa_key*',
    }),
    checks: [
      {
        title: 'There is an ed25519 key',
        kind: 'file',
        path: '/etc/ssh/ssh_host_ed25519_key',
        present: true,
      },
      {
        title: 'There are no keys of other kinds but RSA',
        kind: 'command',
        command: "ls /etc/ssh/ssh_host_*_key | grep -vE '_(ed25519|rsa)_key$'",
        exit: 1,
      },
      {
        title: 'Host keys are for root to read, their public parts for nobody else to write',
        kind: 'command',
        command:
          "find /etc/ssh -name 'ssh_host_*' \\( ! -user root -o ! -name '*.pub' -perm /0177 -o -name '*.pub' -perm /0133 \\) | grep .",
        exit: 1,
      },
    ],
  },
  {
    id: 'sshd-rsa-host-key',
    title: `For clients without ed25519 there is an RSA host key of ${RSA_BITS} bits, made while sshd is already up`,
    area: 'sshd',
    sources: ['ssh-audit policy “Hardened Debian 12 (version 2)”'],
    profile: 'cis-l1',
    measures: {
      files: [
        {
          // Keys are offered in this order. One that is not there yet is passed over.
          path: '/etc/ssh/sshd_config.d/10-imagebuild-host-keys.conf',
          content: `HostKey /etc/ssh/ssh_host_ed25519_key\nHostKey ${RSA_KEY}\n`,
          mode: '0600',
        },
        {
          // Not oneshot: no target waits for it. Idle, so that it takes no time from what boots.
          path: '/etc/systemd/system/imagebuild-rsa-host-key.service',
          content: `[Unit]
Description=RSA host key of ${RSA_BITS} bits for SSH
After=ssh.service cloud-init.service cloud-init-network.service imagebuild-first-boot.service
ConditionPathExists=!${RSA_KEY}

[Service]
Type=exec
Nice=19
CPUSchedulingPolicy=idle
IOSchedulingClass=idle
UMask=0077
ExecStart=/bin/sh -c 'set -e; rm -f ${RSA_KEY}.new ${RSA_KEY}.new.pub; ssh-keygen -q -t rsa -b ${RSA_BITS} -N "" -C "" -f ${RSA_KEY}.new; mv ${RSA_KEY}.new.pub ${RSA_KEY}.pub; chmod 0644 ${RSA_KEY}.pub; mv ${RSA_KEY}.new ${RSA_KEY}; ${RELOAD_SSHD}'

[Install]
WantedBy=multi-user.target
`,
        },
      ],
      // Only enabled: the machine that is built needs no such key, its clones do.
      enable: ['imagebuild-rsa-host-key.service'],
    },
    checks: [
      {
        kind: 'command',
        command: `for second in $(seq ${RSA_SECONDS}); do [ ! -e ${RSA_KEY} ] || break; sleep 1; done; ssh-keygen -lf ${RSA_KEY}.pub`,
        exit: 0,
        output: `^${RSA_BITS} `,
        seconds: RSA_SECONDS + 60,
      },
    ],
  },
]
