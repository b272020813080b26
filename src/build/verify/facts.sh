# Tells who a machine is and how it is: one JSON object a line, values in base64. Runs as root and changes nothing.
# Paths begin with $ROOT, which is empty but in tests.
#
#   ROOT    what stands before each path
#   SETTLE  seconds to wait for the end of its boot; 0: only who it is is wanted
set -u
LC_ALL=C; export LC_ALL

fact() { printf '{"fact":"%s","value":"%s"}\n' "$1" "$(base64 -w0)"; }

if [ "$SETTLE" -gt 0 ]; then
  # What is started by the boot must have ended or be up; `degraded` is an answer too.
  timeout "$SETTLE" systemctl is-system-running --wait 2>/dev/null | fact system
fi

cat "$ROOT/etc/machine-id" 2>/dev/null | fact machine-id
cat "$ROOT/proc/sys/kernel/hostname" 2>/dev/null | fact hostname
for key in "$ROOT"/etc/ssh/ssh_host_*_key.pub; do
  [ -f "$key" ] && head -n 1 "$key" | fact host-key
done
ip -o -4 addr show scope global 2>/dev/null | awk '{ print $4 }' | fact addresses
cat "$ROOT"/sys/class/net/*/address 2>/dev/null | fact cards
# What a machine keeps secret, or is known by, two must not share.
for secret in /var/lib/systemd/credential.secret /var/lib/systemd/random-seed /var/lib/NetworkManager/secret_key \
  /etc/nvme/hostid /etc/nvme/hostnqn /etc/iscsi/initiatorname.iscsi /var/lib/dbus/machine-id; do
  [ -f "$ROOT$secret" ] && [ ! -L "$ROOT$secret" ] &&
    printf '%s %s' "$secret" "$(sha256sum "$ROOT$secret" | cut -d' ' -f1)" | fact secret
done
# Private keys where services keep theirs, by digests alone; container images have a world of their own below /var/lib.
# What a package brings along is everybody's anyway, and SSH's are looked at elsewhere.
pem='^-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----'
{
  grep -rlsE -e "$pem" "$ROOT/etc" "$ROOT/usr/local/etc"
  find "$ROOT/var/lib" -xdev -maxdepth 4 \( -path "$ROOT/var/lib/docker" -o -path "$ROOT/var/lib/container*" -o -path "$ROOT/var/lib/lxc" \) -prune \
    -o -type f \( -name '*.key' -o -name '*.pem' \) -exec grep -lsE -e "$pem" {} +
} 2>/dev/null | while read -r file; do
  path=${file#"$ROOT"}
  case $path in /etc/ssh/*) continue ;; esac
  dpkg-query -S "$path" >/dev/null 2>&1 && continue
  printf '%s %s' "$(sha256sum "$file" | cut -d' ' -f1)" "$path" | fact private-key
done
[ "$SETTLE" -gt 0 ] || exit 0

systemctl list-units --state=failed --no-legend --plain 2>/dev/null | awk '{ print $1 }' |
  while read -r unit; do
    printf '%s: %s\n' "$unit" "$(systemctl show -p Result --value "$unit")"
    # What the service itself has said; what systemd says of it is that it failed.
    said=$(journalctl --quiet --no-pager -b -n 6 -o cat "_SYSTEMD_UNIT=$unit" 2>/dev/null)
    [ -n "$said" ] || said=$(journalctl --quiet --no-pager -b -n 3 -o cat -u "$unit" 2>/dev/null)
    printf '%s\n' "$said" | awk '!seen[$0]++ { print "  " $0 }'
  done | fact failed-units

if [ ! -e "$ROOT/usr/bin/cloud-init" ]; then echo absent
elif [ ! -d "$ROOT/run/cloud-init" ] || [ -e "$ROOT/run/cloud-init/disabled" ] || [ -e "$ROOT/etc/cloud/cloud-init.disabled" ]; then echo disabled
else
  waited=0
  while [ ! -e "$ROOT/run/cloud-init/result.json" ] && [ "$waited" -lt "$SETTLE" ]; do sleep 1; waited=$((waited + 1)); done
  [ -e "$ROOT/run/cloud-init/result.json" ] && echo done || echo running
fi | fact cloud-init
for file in result status; do
  [ -e "$ROOT/run/cloud-init/$file.json" ] && cat "$ROOT/run/cloud-init/$file.json" | fact "cloud-init-$file"
done

command -v qemu-ga 2>/dev/null | fact guest-agent

# The root file system, its partition and its disk, in bytes: `device size partition start-and-size disk`.
df --output=source,size -B1 / 2>/dev/null | tail -n 1 | while read -r device size; do
  name=$(basename "$(readlink -f "$device")")
  block="/sys/class/block/$name"
  [ -f "$block/partition" ] || continue
  part=$(($(cat "$block/size") * 512))
  end=$(($(cat "$block/start") * 512 + part))
  disk=$(($(cat "$block/../size") * 512))
  # Of ext2 to ext4 the exact size is known; what df calls size leaves out their own tables.
  exact=$(dumpe2fs -h "$device" 2>/dev/null | awk -F: '/^Block count:/ { count = $2 } /^Block size:/ { size = $2 } END { if (count) printf "%.0f", count * size }')
  printf '%s %s %s %s %s' "$device" "${exact:-$size}" "$part" "$end" "$disk"
done | fact root-disk
exit 0
