#!/bin/sh
# Takes out of a finished guest whatever two clones of it must not share, and what only the build needed. Runs
# as root, as the last thing in the guest.
#
#   BUILD_USER  the account that the build logged in with
#   BUILD_KEY   the base64 part of its public key
#   AND_THEN    `poweroff`, or `stay` where the tree is still to be read out of it
set -eu
# Services read what is written here under accounts of their own; a hardened session would give files a 027.
umask 022

# Nothing may write logs or caches behind our back from here on. An upgrade in the background comes to the end of
# the package that it is at: poweroff would cut it off in the middle. The journal goes on in /run: one that is
# deleted under journald's hands is made anew, with our name in it.
systemctl stop '*.timer' syslog.socket rsyslog.service cron.service >/dev/null 2>&1 || true
systemctl stop apt-daily.service apt-daily-upgrade.service unattended-upgrades.service >/dev/null 2>&1 || true
journalctl --relinquish-var >/dev/null 2>&1 || true

# The build's way in. cloud-init also copies its key to root, with a command that says "log in as …".
for home in /root /home/*; do
  keys="$home/.ssh/authorized_keys"
  [ -f "$keys" ] || continue
  # Proxmox puts its keys between two marks, which stay behind where they were all.
  grep -vF "$BUILD_KEY" "$keys" | sed '/^# --- BEGIN PVE ---$/{N;/\n# --- END PVE ---$/d}' > "$keys.sealed" || true
  if [ -s "$keys.sealed" ]; then
    cat "$keys.sealed" > "$keys"
    rm -f "$keys.sealed"
  else
    rm -f "$keys.sealed" "$keys"
    rmdir "$home/.ssh" 2>/dev/null || true
  fi
done
# Root, as whom containers are built, stays.
if [ "$BUILD_USER" != root ]; then
  for rules in /etc/sudoers.d/*; do
    [ -f "$rules" ] || continue
    grep -qE "^(# User rules for )?$BUILD_USER( |\$)" "$rules" || continue
    sed -i -E "/^(# User rules for )?$BUILD_USER( |\$)/d" "$rules"
    grep -qvE '^[[:space:]]*(#|$)' "$rules" || rm -f "$rules"
  done
  # Its sshd and sudo still run, so it cannot be asked to log out: --force.
  if id "$BUILD_USER" >/dev/null 2>&1; then
    userdel --force --remove "$BUILD_USER" 2>/dev/null || true
    if id "$BUILD_USER" >/dev/null 2>&1; then echo "the user $BUILD_USER could not be removed" >&2; exit 1; fi
  fi
  groupdel "$BUILD_USER" 2>/dev/null || true
  rm -f "/var/spool/cron/crontabs/$BUILD_USER" "/var/lib/systemd/linger/$BUILD_USER" "/run/sudo/ts/$BUILD_USER" "/var/lib/sudo/lectured/$BUILD_USER"
fi
rm -f /var/mail/*
# The tools that edit the account files keep the version before: with the user in it.
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-

# Identity. An empty machine-id is filled at boot. (The word `uninitialized` would also be, but makes systemd
# think of a first boot, which enables services again that a layer has disabled.)
: > /etc/machine-id
[ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id
rm -f /etc/ssh/ssh_host_*
rm -f /var/lib/systemd/random-seed /var/lib/urandom/random-seed /boot/efi/loader/random-seed /var/lib/systemd/credential.secret
rm -f /var/lib/NetworkManager/secret_key /etc/nvme/hostid /etc/nvme/hostnqn
# open-iscsi makes a name at its first start where it finds this line instead of one. Two initiators of one name
# would write to the same disk.
iscsi=/etc/iscsi/initiatorname.iscsi
if [ -f "$iscsi" ] && grep -q '^InitiatorName=iqn\.1993-08\.org\.debian:' "$iscsi"; then echo GenerateName=yes > "$iscsi"; fi
# ssl-cert makes a certificate when it is installed, and mail servers, databases and web servers begin with its key.
snakeoil=/etc/ssl/private/ssl-cert-snakeoil.key
if [ -f "$snakeoil" ] && command -v make-ssl-cert >/dev/null; then
  cat > /etc/systemd/system/imagebuild-ssl-cert.service <<'UNIT'
[Unit]
Description=Key and certificate of ssl-cert of a new clone
DefaultDependencies=no
# It works in /tmp, which is emptied at boot.
After=local-fs.target systemd-tmpfiles-setup.service cloud-init-local.service
Before=sysinit.target shutdown.target
Conflicts=shutdown.target
ConditionPathExists=!/etc/ssl/private/ssl-cert-snakeoil.key
ConditionFileIsExecutable=/usr/sbin/make-ssl-cert

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=make-ssl-cert generate-default-snakeoil

[Install]
WantedBy=sysinit.target
UNIT
  systemctl --quiet enable imagebuild-ssl-cert.service
  rm -f "$snakeoil" /etc/ssl/certs/ssl-cert-snakeoil.pem
  find /etc/ssl/certs -maxdepth 1 -lname ssl-cert-snakeoil.pem -delete
fi
echo localhost > /etc/hostname
sed -i "/^127\\.0\\.1\\.1[[:space:]]/d" /etc/hosts

# cloud-init must take the next machine for a new one: its state, and what it made of the build's seed.
rm -rf /var/lib/cloud/* /run/cloud-init
rm -f /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init /etc/network/interfaces.d/50-cloud-init.cfg \
  /etc/systemd/network/10-cloud-init-*.network /etc/systemd/network/10-cloud-init-*.link \
  /etc/NetworkManager/system-connections/cloud-init-*.nmconnection \
  /etc/udev/rules.d/70-persistent-net.rules /etc/ssh/sshd_config.d/50-cloud-init.conf
rm -f /etc/cloud/cloud-init.disabled

# DHCP: who asks for a lease is the card's MAC, not the machine-id and not a number kept in a file, both of which are
# new in every clone; a clone with a fixed MAC then has one lease, however often it is made. ifupdown calls dhclient with
# -i, an identifier that is made up wherever there is no lease yet: what is configured counts more. networkd keeps to this wherever a .network file, or
# netplan, does not choose an identifier of its own.
if [ -d /etc/systemd ]; then
  mkdir -p /etc/systemd/networkd.conf.d
  printf '%s\n' '# Identify to DHCP servers by the MAC address of the card instead of the machine-id.' \
    '[DHCPv4]' 'DUIDType=link-layer' > /etc/systemd/networkd.conf.d/50-dhcp-identity.conf
fi
if [ -f /etc/dhcp/dhclient.conf ] && ! grep -q '^[[:space:]]*send dhcp-client-identifier' /etc/dhcp/dhclient.conf; then
  echo 'send dhcp-client-identifier = hardware;' >> /etc/dhcp/dhclient.conf
fi
if [ -f /etc/dhcpcd.conf ]; then
  sed -i -E 's/^[[:space:]]*duid([[:space:]].*)?$/clientid/' /etc/dhcpcd.conf
  grep -qE '^[[:space:]]*clientid([[:space:]]|$)' /etc/dhcpcd.conf || echo clientid >> /etc/dhcpcd.conf
fi
if [ -d /etc/NetworkManager ]; then
  mkdir -p /etc/NetworkManager/conf.d
  printf '%s\n' '# Identify to DHCP servers by the MAC address of the card.' \
    '[connection]' 'ipv4.dhcp-client-id=mac' > /etc/NetworkManager/conf.d/50-dhcp-identity.conf
fi

# Leases and what the network told us.
rm -f /var/lib/dhcp/* /var/lib/dhclient/* /var/lib/dhcpcd/* /var/lib/NetworkManager/*.lease /run/systemd/netif/leases/*

# Packages: lists and caches only; the next `apt-get update` makes them again.
apt-get clean
# The folders in it are apt's own, as dpkg -V knows.
[ ! -d /var/lib/apt/lists ] || find /var/lib/apt/lists -type f -delete
rm -f /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old
rm -f /var/lib/apt/periodic/* /var/lib/apt/extended_states.bak /var/cache/motd-news /var/lib/update-notifier/updates-available
# When a timer last fired: in a clone all of them would be overdue, and apt-daily's run at its first boot.
rm -f /var/lib/systemd/timers/stamp-*

# Logs, histories, temporary files.
find /var/log -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.[0-9]' -o -name '*.old' -o -name '*.journal' -o -name '*.journal~' \) -delete
find /var/log -depth -mindepth 2 -type d -path '/var/log/journal/*' -delete 2>/dev/null || true
rm -f /var/log/cloud-init.log /var/log/cloud-init-output.log
find /var/log -type f -exec truncate -s 0 {} +
# Who was here when, where pam_wtmpdb and pam_lastlog2 keep it: wtmp and lastlog of Debian 13.
rm -f /var/lib/wtmpdb/wtmp.db* /var/lib/lastlog/lastlog2.db*
for home in /root /home/*; do
  [ -d "$home" ] || continue
  rm -f "$home"/.bash_history "$home"/.sh_history "$home"/.zsh_history "$home"/.lesshst "$home"/.viminfo \
    "$home"/.python_history "$home"/.wget-hsts "$home"/.sudo_as_admin_successful
  rm -rf "$home"/.cache "$home"/.ansible/tmp
done
find /tmp /var/tmp -mindepth 1 -maxdepth 1 -exec rm -rf {} +
rm -rf /var/lib/systemd/coredump/* /var/crash/*

# What is free goes back to the storage; ext4 frees the blocks of deleted files only with its next commit.
sync
fstrim -a 2>/dev/null || true
sync

# --force skips stopping services, which have nothing left to save and would only write logs again; file systems
# are unmounted all the same. A moment later, so that this script's exit code still gets through. The guest agent sometimes
# misses the signal to end, and is then waited for, 90 seconds; killed alone, it would be started again.
[ "$AND_THEN" = poweroff ] || exit 0
setsid sh -c 'sleep 0.3; systemctl --quiet --no-block stop qemu-guest-agent.service; systemctl kill --signal=KILL qemu-guest-agent.service; exec systemctl poweroff --force' </dev/null >/dev/null 2>&1 &
