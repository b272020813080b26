import type { HardeningItem } from '../item.ts'

const DAEMONS = ['chrony', 'ntpsec', 'ntp', 'openntpd']

export const TIME: readonly HardeningItem[] = [
  {
    id: 'time-synchronised',
    title: 'One service sets the clock: systemd-timesyncd, where no other is installed',
    area: 'updates',
    sources: ['CIS Debian 12 2.3.1.1', 'CIS Debian 12 2.3.2.1', 'CIS Debian 12 2.3.2.2', 'lynis TIME-3104'],
    profile: 'baseline',
    notApplicable: (machine) => (machine.kind === 'lxc' ? "the clock is the node's" : undefined),
    measures: {
      // Not one of the packages above: apt would remove another daemon for it.
      script: `for daemon in ${DAEMONS.join(' ')}; do
  if dpkg-query --show --showformat '\${db:Status-Status}' "$daemon" 2>/dev/null | grep -qx installed; then exit 0; fi
done
[ -x /lib/systemd/systemd-timesyncd ] || { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends systemd-timesyncd; }
pool=$(. /etc/os-release && echo "$ID").pool.ntp.org
mkdir -p /etc/systemd/timesyncd.conf.d
# Servers that DHCP or an administrator names go first.
printf '[Time]\\nFallbackNTP=%s %s %s %s\\n' "0.$pool" "1.$pool" "2.$pool" "3.$pool" > /etc/systemd/timesyncd.conf.d/50-pool.conf
systemctl --quiet is-enabled systemd-timesyncd.service || systemctl --quiet --no-reload enable systemd-timesyncd.service`,
    },
    checks: [
      {
        title: 'Exactly one runs',
        kind: 'command',
        command: `systemctl list-units --plain --no-legend --state=active systemd-timesyncd.service ${DAEMONS.map((name) => `${name}.service`).join(' ')} | wc -l`,
        exit: 0,
        output: '^1$',
      },
      {
        title: 'timesyncd, if it is the one, knows servers',
        kind: 'command',
        command: `systemctl --quiet is-active systemd-timesyncd.service || exit 0
systemd-analyze cat-config systemd/timesyncd.conf | grep -qE '^(Fallback)?NTP=[^[:space:]]'`,
        exit: 0,
      },
    ],
  },
]
