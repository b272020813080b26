#!/bin/sh
# What a container needs before seal.sh, beyond what a virtual machine does. Runs as root.
set -eu
# Services read what is written here under accounts of their own; a hardened session would give files a 027.
umask 022

# cloud-init makes a virtual machine's clones different from each other. A clone of a container has none: Proxmox gives
# it a name and an address, but neither host keys nor, on some systems, a machine-id.
cat > /etc/systemd/system/imagebuild-first-boot.service <<'UNIT'
[Unit]
Description=Machine id and SSH host keys of a new clone
DefaultDependencies=no
After=local-fs.target
Before=ssh.socket ssh.service sshd.service shutdown.target
Conflicts=shutdown.target
ConditionPathExists=|!/etc/ssh/ssh_host_ed25519_key
ConditionFileNotEmpty=|!/etc/machine-id

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=-systemd-machine-id-setup
ExecStart=ssh-keygen -A

[Install]
WantedBy=multi-user.target
UNIT
systemctl --quiet enable imagebuild-first-boot.service

# What Proxmox writes at each start, for the machine that starts: not this one's name and address.
if [ -f /etc/network/interfaces ]; then
  # A stanza ends where the next line begins that is not indented.
  awk '/^(auto|allow-[a-z]+)[ \t]+eth0[ \t]*$/ { next } /^iface[ \t]+eth0[ \t]/ { skip = 1; next } skip && /^[ \t]/ { next } { skip = 0; print }' \
    /etc/network/interfaces > /etc/network/interfaces.sealed
  cat /etc/network/interfaces.sealed > /etc/network/interfaces
  rm -f /etc/network/interfaces.sealed
fi
rm -f /etc/systemd/network/eth0.network
sed -i '/^# --- BEGIN PVE ---$/,/^# --- END PVE ---$/d' /etc/hosts
if [ -f /etc/resolv.conf ] && [ ! -L /etc/resolv.conf ]; then : > /etc/resolv.conf; fi

# Only there so that the build could begin.
rm -f /usr/local/sbin/imagebuild-prepare /etc/systemd/system/imagebuild-prepare.service \
  /etc/systemd/system/multi-user.target.wants/imagebuild-prepare.service \
  /run/systemd/network/eth0.network

# A container that is created from the archive has no machine-id, which systemd takes for a first boot: it then enables
# by its presets whatever a layer has disabled.
mkdir -p /etc/systemd/system-preset
systemctl list-unit-files --state=disabled --no-legend --plain | awk '{ print "disable " $1 }' \
  > /etc/systemd/system-preset/00-imagebuild.preset
