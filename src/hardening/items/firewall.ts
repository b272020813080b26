import type { HardeningItem } from '../item.ts'
import { NFTABLES_FOLDER, nftablesRuleset } from './firewall-ruleset.ts'

const OTHER_TOOLS = ['ufw', 'iptables-persistent', 'firewalld']

export const FIREWALL: readonly HardeningItem[] = [
  {
    id: 'firewall-nftables',
    title:
      'Nothing comes in but SSH, pings and answers; nothing is forwarded but for the machine’s own containers',
    area: 'firewall',
    sources: [
      'CIS Debian 12 4.1.1',
      'CIS Debian 12 4.3.1',
      ...[4, 5, 6, 7, 8, 9, 10].map((n) => `CIS Debian 12 4.3.${n}`),
      'lynis FIRE-4590',
      'nft(8)',
    ],
    profile: 'baseline',
    measures: (machine) => ({
      packages: ['nftables'],
      files: [
        { path: '/etc/nftables.conf', content: nftablesRuleset(machine), mode: '0755' },
        {
          path: `${NFTABLES_FOLDER}/README`,
          content:
            'Files named *.nft are read at the end of /etc/nftables.conf, which says what they may look like.\n',
        },
        {
          // Debian's unit flushes everybody's tables when it stops, those of Docker and fail2ban too.
          path: '/etc/systemd/system/nftables.service.d/own-table.conf',
          content: '[Service]\nExecStop=\nExecStop=-/usr/sbin/nft delete table inet filter\n',
        },
      ],
      script: 'nft --check --file /etc/nftables.conf',
      enable: ['nftables.service'],
    }),
    checks: (machine) => [
      { title: 'It is loaded at boot', kind: 'service', unit: 'nftables.service', state: 'enabled' },
      { title: 'It has been loaded', kind: 'service', unit: 'nftables.service', state: 'active' },
      {
        title: 'What is not allowed in is dropped',
        kind: 'command',
        command: 'nft list chain inet filter input',
        exit: 0,
        output: 'hook input priority filter; policy drop;',
      },
      {
        title: 'SSH is open',
        kind: 'command',
        command: 'nft get element inet filter open_tcp "{ 22 }"',
        exit: 0,
      },
      machine.containerHost
        ? {
            title: 'Forwarding is left to the tables of the containers',
            kind: 'command',
            command: 'nft list chain inet filter forward 2>/dev/null',
            exit: 1,
          }
        : {
            title: 'Nothing is forwarded',
            kind: 'command',
            command: 'nft list chain inet filter forward',
            exit: 0,
            output: 'hook forward priority filter; policy drop;',
          },
      {
        title: 'Spoofed loopback addresses are dropped',
        kind: 'command',
        command: 'nft list chain inet filter input',
        exit: 0,
        output: 'ip saddr 127.0.0.0/8 drop',
      },
    ],
  },
  {
    id: 'firewall-one-tool',
    title: 'There is one tool for the firewall',
    area: 'firewall',
    sources: ['CIS Debian 12 4.1.1', 'CIS Debian 12 4.2.2', 'CIS Debian 12 4.3.2', 'CIS Debian 12 4.4.1.3'],
    profile: 'baseline',
    forbids: OTHER_TOOLS,
    measures: { remove: OTHER_TOOLS },
    checks: OTHER_TOOLS.map((name) => ({
      title: `${name} is not installed`,
      kind: 'package',
      package: name,
      installed: false,
    })),
  },
  {
    id: 'firewall-fail2ban',
    title: 'Who guesses passwords is shut out for an hour',
    area: 'firewall',
    sources: ['lynis DEB-0880', 'jail.conf(5)'],
    profile: 'baseline',
    measures: {
      // python3-systemd reads the journal: /var/log/auth.log is not there without rsyslog.
      packages: ['fail2ban', 'python3-systemd'],
      files: [
        {
          path: '/etc/fail2ban/jail.d/sshd.local',
          content: `[DEFAULT]
# A table of its own, beside that of /etc/nftables.conf.
banaction = nftables[type=multiport]
banaction_allports = nftables[type=allports]

[sshd]
enabled = true
backend = systemd
# From OpenSSH 9.8 on, whoever is refused is told of by another program than the one that listens.
journalmatch = _SYSTEMD_UNIT=ssh.service + _COMM=sshd + _COMM=sshd-session
maxretry = 5
findtime = 10m
bantime = 1h
`,
        },
        {
          // It is not what a booting machine is waited for, and should not take time from what is.
          path: '/etc/systemd/system/fail2ban.service.d/after-sshd.conf',
          content: '[Unit]\nAfter=ssh.service\n',
        },
      ],
      enable: ['fail2ban.service'],
    },
    checks: [
      { title: 'It runs', kind: 'service', unit: 'fail2ban.service', state: 'active' },
      {
        title: 'It reads what sshd writes into the journal',
        kind: 'command',
        command: 'fail2ban-client get sshd journalmatch',
        exit: 0,
        output: '_SYSTEMD_UNIT=sshd?\\.service.*_COMM=sshd-session',
      },
      {
        title: 'It bans for an hour or longer',
        kind: 'command',
        command: 'fail2ban-client get sshd bantime',
        exit: 0,
        output: '^(36\\d\\d|[4-9]\\d{3}|\\d{5,})$',
      },
    ],
  },
]
