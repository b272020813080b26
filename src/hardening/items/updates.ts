import type { HardeningItem } from '../item.ts'

/** After those of the packages: apt takes the last value. */
const SETTINGS: Readonly<Record<string, string>> = {
  'APT::Periodic::Update-Package-Lists': '1',
  'APT::Periodic::Unattended-Upgrade': '1',
  'APT::Periodic::AutocleanInterval': '7',
  'Unattended-Upgrade::MinimalSteps': 'true',
  'Unattended-Upgrade::Remove-Unused-Kernel-Packages': 'true',
  'Unattended-Upgrade::Automatic-Reboot': 'false',
}

export const UPDATES: readonly HardeningItem[] = [
  {
    id: 'updates-unattended',
    title: 'Security updates are installed every day, without a reboot',
    area: 'updates',
    sources: ['CIS Debian 12 1.2.2.1', 'lynis PKGS-7420'],
    profile: 'baseline',
    measures: {
      packages: ['unattended-upgrades'],
      files: [
        {
          path: '/etc/apt/apt.conf.d/60unattended-security',
          content: `${Object.entries(SETTINGS)
            .map(([name, value]) => `${name} "${value}";`)
            .join('\n')}\n`,
        },
        {
          // Only there to wait for the machine's shutdown.
          path: '/etc/systemd/system/unattended-upgrades.service.d/after-sshd.conf',
          content: '[Unit]\nAfter=ssh.service\n',
        },
      ],
      // Debian's timers make up for runs that were missed, but not in a machine that never had one: sealing removes
      // their stamps, so that nobody's own apt finds the lock taken at a clone's first boot.
      enable: ['apt-daily.timer', 'apt-daily-upgrade.timer', 'unattended-upgrades.service'],
    },
    checks: [
      ...Object.entries(SETTINGS).map(([name, value]) => ({
        title: `${name} is ${value}`,
        kind: 'command' as const,
        // One answer for all.
        command: 'apt-config dump',
        exit: 0,
        output: `^${name} "${value}";$`,
      })),
      {
        title: 'Security updates are among what is installed',
        kind: 'command',
        command: 'apt-config dump',
        exit: 0,
        output: '(label=Debian-Security|:\\$\\{distro_codename\\}-security)',
      },
      { title: 'Lists are fetched', kind: 'service', unit: 'apt-daily.timer', state: 'active' },
      { title: 'Updates are installed', kind: 'service', unit: 'apt-daily-upgrade.timer', state: 'active' },
    ],
  },
]
