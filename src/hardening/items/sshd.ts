import type { HardeningItem, ItemCheck, MachineTraits } from '../item.ts'
import { RELOAD_SSHD } from '../reload-sshd.ts'
import { algorithms, SSHD_ALGORITHMS } from './sshd-algorithms.ts'
import { SSHD_HOST_KEYS } from './sshd-host-keys.ts'
import { type Settings, sshdMainFile } from './sshd-main-file.ts'

/** Before cloud-init's 50-cloud-init.conf: of several values the first one counts. */
const DROP_INS = '/etc/ssh/sshd_config.d'

function dropIn(name: string, settings: Settings) {
  const lines = Object.entries(settings).map(([keyword, value]) => `${keyword} ${value}\n`)
  return { path: `${DROP_INS}/10-imagebuild-${name}.conf`, content: lines.join(''), mode: '0600' }
}

/** One check for each setting. `as`: where `sshd -T` writes a value differently. */
function effective(settings: Settings, as: Settings = {}): ItemCheck[] {
  return Object.entries({ ...settings, ...as }).map(([keyword, value]) => ({
    title: `${keyword} ${value}`,
    kind: 'sshd',
    keyword: keyword.toLowerCase(),
    value: String(value).replaceAll('.', '\\.'),
  }))
}

const LOGIN: Settings = {
  PubkeyAuthentication: 'yes',
  PasswordAuthentication: 'no',
  KbdInteractiveAuthentication: 'no',
  PermitEmptyPasswords: 'no',
  HostbasedAuthentication: 'no',
  IgnoreRhosts: 'yes',
  GSSAPIAuthentication: 'no',
  KerberosAuthentication: 'no',
  UsePAM: 'yes',
  StrictModes: 'yes',
  PermitUserEnvironment: 'no',
  Banner: '/etc/issue.net',
  LogLevel: 'INFO',
}

/** `sshd -T` does not show it. */
const UNSEEN: Settings = { DebianBanner: 'no' }

const LIMITS: Settings = {
  MaxAuthTries: 4,
  MaxSessions: 10,
  MaxStartups: '10:30:60',
  LoginGraceTime: 60,
  ClientAliveInterval: 300,
  ClientAliveCountMax: 3,
  TCPKeepAlive: 'no',
  Compression: 'no',
  UseDNS: 'no',
}

const FORWARDING: Settings = {
  AllowAgentForwarding: 'no',
  AllowStreamLocalForwarding: 'no',
  AllowTcpForwarding: 'no',
  GatewayPorts: 'no',
  PermitTunnel: 'no',
  X11Forwarding: 'no',
}

/** Debian's own accounts: the same numbers and names on every machine, and none of them a person. */
const SYSTEM_ACCOUNTS =
  'daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody _apt systemd-network systemd-resolve systemd-timesync systemd-coredump messagebus sshd'

function rootLogin({ kind }: MachineTraits): Settings {
  // Proxmox's way into a container is root's key, which `pct create` puts there.
  return { PermitRootLogin: kind === 'lxc' ? 'prohibit-password' : 'no' }
}

/** What each item sets that says so in the main file as well. */
function settingsOfItems(machine: MachineTraits): Readonly<Record<string, Settings>> {
  return {
    'sshd-login': { ...rootLogin(machine), ...LOGIN },
    'sshd-limits': LIMITS,
    'sshd-algorithms': algorithms(machine),
  }
}

export const SSHD: readonly HardeningItem[] = [
  {
    id: 'sshd-login',
    title:
      'People log in by key or certificate, never by password, and root only where Proxmox has no other way',
    area: 'sshd',
    sources: [
      'CIS Debian 12 5.1.5',
      'CIS Debian 12 5.1.10',
      'CIS Debian 12 5.1.11',
      'CIS Debian 12 5.1.14',
      'CIS Debian 12 5.1.19 to 5.1.22',
      'dev-sec sshd-06',
      'dev-sec sshd-11',
      'dev-sec sshd-17',
      'dev-sec sshd-22 to sshd-33',
      'dev-sec sshd-47',
      'lynis SSH-7408',
    ],
    profile: 'baseline',
    measures: (machine) => ({ files: [dropIn('hardening', { ...rootLogin(machine), ...LOGIN, ...UNSEEN })] }),
    checks: (machine) => [
      ...effective(
        { ...rootLogin(machine), ...LOGIN },
        // Written as it was called before.
        machine.kind === 'lxc' ? { PermitRootLogin: 'without-password' } : {},
      ),
      {
        title: 'The greeting does not name the version of the package',
        kind: 'command',
        command: "timeout 10 bash -c 'exec 3<>/dev/tcp/127.0.0.1/22; head -n 1 <&3'",
        exit: 0,
        output: '^SSH-2\\.0-OpenSSH_[0-9.]+(p[0-9]+)?\\s*$',
      },
    ],
  },
  {
    id: 'sshd-limits',
    title: 'Few tries, little time, and no connection that nobody uses',
    area: 'sshd',
    sources: [
      'CIS Debian 12 5.1.7',
      'CIS Debian 12 5.1.13',
      'CIS Debian 12 5.1.16 to 5.1.18',
      'dev-sec sshd-18 to sshd-21',
      'dev-sec sshd-35 to sshd-37',
      'lynis SSH-7408',
    ],
    profile: 'baseline',
    measures: { files: [dropIn('limits', LIMITS)] },
    checks: effective(LIMITS),
  },
  {
    id: 'sshd-forwarding',
    title: 'Nothing is forwarded: neither ports, nor agents, nor windows',
    area: 'sshd',
    sources: ['dev-sec sshd-38 to sshd-42', 'lynis SSH-7408'],
    profile: 'baseline',
    measures: { files: [dropIn('forwarding', FORWARDING)] },
    checks: effective(FORWARDING),
  },
  {
    id: 'sshd-deny',
    title: "Debian's own accounts cannot log in; everybody whom cloud-init creates can",
    area: 'sshd',
    sources: ['CIS Debian 12 5.1.4'],
    profile: 'cis-l1',
    measures: ({ kind }) => ({
      files: [dropIn('deny', { DenyUsers: kind === 'vm' ? `root ${SYSTEM_ACCOUNTS}` : SYSTEM_ACCOUNTS })],
    }),
    checks: [{ kind: 'sshd', keyword: 'denyusers', value: 'nobody' }],
  },
  ...SSHD_ALGORITHMS,
  ...SSHD_HOST_KEYS,
  sshdMainFile(settingsOfItems),
  {
    id: 'sshd-files',
    title: "sshd's configuration is for root to read",
    area: 'sshd',
    sources: ['CIS Debian 12 5.1.1', 'dev-sec sshd-04', 'dev-sec sshd-05', 'lynis FILE-7524'],
    profile: 'baseline',
    measures: {
      script: `chown -R root:root /etc/ssh
chmod 0755 /etc/ssh
chmod 0600 /etc/ssh/sshd_config
find /etc/ssh/sshd_config.d -type f -exec chmod 0600 {} +`,
    },
    checks: [
      {
        title: 'The file',
        kind: 'file',
        path: '/etc/ssh/sshd_config',
        present: true,
        mode: '600',
        owner: 'root:root',
      },
      {
        title: 'The files that it includes',
        kind: 'command',
        command: 'find /etc/ssh/sshd_config.d -type f \\( -perm /0177 -o ! -user root \\) | grep .',
        exit: 1,
      },
    ],
  },
  {
    id: 'sshd-reload',
    title: 'sshd accepts its configuration',
    area: 'sshd',
    sources: ['OpenSSH sshd(8) -t'],
    profile: 'baseline',
    measures: {
      // What shuts people out shows now, in the next connection of the build, and not in a clone.
      script: `mkdir -p /run/sshd
sshd -t
if [ -d /run/systemd/system ]; then ${RELOAD_SSHD}; fi`,
    },
    checks: [{ kind: 'command', command: 'mkdir -p /run/sshd; sshd -t', exit: 0 }],
  },
]
