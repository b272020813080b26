#!/bin/sh
# Run once by a container that lacks what a build needs, when it first starts: brings up its network, if nothing in it
# can, and installs the packages that are named. Sealing removes it.
set -eu

# Proxmox tells Debian its network in ifupdown's file alone. Without ifupdown, networkd is told the same.
if [ ! -x /usr/sbin/ifup ] && [ ! -x /sbin/ifup ]; then
  address=$(sed -n 's/^[[:space:]]*address[[:space:]]*//p' /etc/network/interfaces | head -n 1)
  gateway=$(sed -n 's/^[[:space:]]*gateway[[:space:]]*//p' /etc/network/interfaces | head -n 1)
  mkdir -p /run/systemd/network
  {
    printf '[Match]\nName=eth0\n\n[Network]\n'
    if [ -n "$address" ]; then printf 'Address=%s\n' "$address"; else printf 'DHCP=ipv4\n'; fi
    if [ -n "$gateway" ]; then printf 'Gateway=%s\n' "$gateway"; fi
    printf '\n[DHCPv4]\nClientIdentifier=mac\n'
  } > /run/systemd/network/eth0.network
  systemctl restart systemd-networkd.service
fi

export DEBIAN_FRONTEND=noninteractive
for try in 1 2 3 4 5 6 7 8 9 10; do
  if apt-get -q update && apt-get -q -y --no-install-recommends install "$@"; then exit 0; fi
  sleep 3
done
exit 1
