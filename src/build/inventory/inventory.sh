# Tells what is in a finished system: one JSON object a line, values in base64, with the exit code of what told them.
# Runs as root, needs nothing but what Debian calls essential (what is missing has an exit code too), and changes nothing:
# what it writes lies in /run.
#
#   BUILD_USER  the account that the build logged in with: sealing takes it away, so it is left out
set -u
umask 077
LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
work=$(mktemp -d /run/imagebuild-inventory.XXXXXX) || exit 1
trap 'rm -rf "$work"' EXIT

# fact <name> <command…>
fact() {
  name=$1; shift
  printf '{"fact":"%s","value":"' "$name"
  { "$@" 2>/dev/null; echo $? > "$work/code"; } | base64 -w0
  printf '","code":%s}\n' "$(cat "$work/code")"
}

installed() {
  dpkg-query --show --showformat='${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\t${db:Status-Status}\t${db:Status-Want}\n'
}

# The configuration as a clone begins with it: without what cloud-init wrote for the build, which sealing removes.
# There may be no host keys, but sshd asks for one.
sshd_values() {
  command -v sshd > /dev/null || return 127
  [ -d /run/sshd ] || mkdir -m 0755 /run/sshd
  ssh-keygen -q -t ed25519 -N '' -f "$work/host-key" || return 1
  drop_in=/etc/ssh/sshd_config.d/50-cloud-init.conf
  [ ! -e "$drop_in" ] || unshare --mount sh -c \
    "mount --bind /dev/null $drop_in && exec sshd -T -h $work/host-key" > "$work/sshd" || rm -f "$work/sshd"
  [ -s "$work/sshd" ] || sshd -T -h "$work/host-key" > "$work/sshd" || return 1
  grep -v "^hostkey $work/" "$work/sshd"
}

# `key<tab>value` of every line in the files for sysctl, in the order in which they are applied. The first separator of a
# key says whether dots or slashes part its names, sysctl.d(5).
sysctl_configured() {
  for tool in /usr/lib/systemd/systemd-sysctl /lib/systemd/systemd-sysctl; do
    [ -x "$tool" ] && break
  done
  "$tool" --cat-config > "$work/sysctl.conf" || return 1
  awk '/^[ \t]*[^#; \t]/ && index($0, "=") {
    key = substr($0, 1, index($0, "=") - 1); value = substr($0, index($0, "=") + 1)
    gsub(/^[ \t]*-?[ \t]*|[ \t]+$/, "", key); gsub(/^[ \t]+|[ \t]+$/, "", value); gsub(/[ \t]+/, " ", value)
    if (match(key, /[.\/]/) && substr(key, RSTART, 1) == "/") { gsub(/\./, "\001", key); gsub(/\//, ".", key); gsub(/\001/, "/", key) }
    print key "\t" value
  }' "$work/sysctl.conf" | tee "$work/sysctl.keys"
}

# Beyond what is configured, what else decides how safe a kernel is. None counts, none depends on the machine's size.
WATCHED='fs.protected_fifos fs.protected_hardlinks fs.protected_regular fs.protected_symlinks fs.suid_dumpable
kernel.dmesg_restrict kernel.kexec_load_disabled kernel.kptr_restrict kernel.modules_disabled kernel.perf_event_paranoid
kernel.randomize_va_space kernel.sysrq kernel.unprivileged_bpf_disabled kernel.unprivileged_userns_clone
kernel.yama.ptrace_scope net.core.bpf_jit_harden net.ipv4.conf.all.accept_redirects
net.ipv4.conf.all.accept_source_route net.ipv4.conf.all.log_martians net.ipv4.conf.all.rp_filter
net.ipv4.conf.all.secure_redirects net.ipv4.conf.all.send_redirects net.ipv4.conf.default.accept_redirects
net.ipv4.conf.default.accept_source_route net.ipv4.conf.default.rp_filter net.ipv4.conf.default.send_redirects
net.ipv4.icmp_echo_ignore_broadcasts net.ipv4.ip_forward net.ipv4.tcp_syncookies net.ipv6.conf.all.accept_ra
net.ipv6.conf.all.accept_redirects net.ipv6.conf.all.disable_ipv6 net.ipv6.conf.all.forwarding
net.ipv6.conf.default.accept_ra net.ipv6.conf.default.accept_redirects'

# What the kernel says. A container has its host's, which is no property of the image.
sysctl_effective() {
  if systemd-detect-virt --container --quiet; then return 3; fi
  { cut -f 1 "$work/sysctl.keys"; printf '%s\n' $WATCHED; } | sort -u | perl -ne '
    chomp;
    (my $name = $_) =~ tr{./}{/.};
    next unless -f "/proc/sys/$name";
    local $/;
    my $value = "";
    if (open my $file, "<", "/proc/sys/$name") { $value = <$file> // ""; }
    $value =~ tr{\t\n }{ }s;
    $value =~ s/ $//;
    print "$_\t$value\n";
  '
  return 0
}

ports() {
  cat /proc/sys/net/ipv4/ip_local_port_range && ss -H -l -t -u -n -p
}

# One pass over the root file system: what runs with somebody else's rights, and how large all of it is. Perl, since tools
# that read capabilities of files are often missing; lgetxattr(2) has another number on each processor. What differs from
# one build to the next, or is emptied by sealing, is no part of the size.
files() {
  home=$(getent passwd "$BUILD_USER" | cut -d: -f6)
  [ "$BUILD_USER" != root ] && [ -n "$home" ] || home=/nonexistent
  find / -xdev \( -path /tmp -o -path /var/tmp -o -path /var/lib/cloud -o -path "$home" \) -prune -o \
    -type f -printf '%s\t%m\t%u\t%g\t%n\t%i\t%p\0' > "$work/files"
  MACHINE=$(uname -m) perl -0 -ne '
    BEGIN { $call = { x86_64 => 192, aarch64 => 9 }->{$ENV{MACHINE}}; }
    chomp;
    my ($size, $mode, $user, $group, $links, $inode, $path) = split /\t/, $_, 7;
    $total += $size unless $path =~ m{^/var/(log|cache|lib/apt/lists)/} || ($links > 1 && $seen{$inode}++);
    print "setuid\t$mode\t$user:$group\t$path\0" if oct($mode) & 06000;
    next unless $call;
    my ($name, $value) = ("security.capability", "\0" x 64);
    my $length = syscall($call, $path, $name, $value, length $value);
    print "capability\t", unpack("H*", substr($value, 0, $length)), "\t\t$path\0" if $length > 0;
    END { print "size\t$total\0"; print "no-capabilities\0" unless $call; }
  ' "$work/files"
}

# `path<NUL>line` of every line that is no comment in the files that name apt's sources. A file that is not there is none.
apt_sources() {
  grep -s -v --text --with-filename --null '^[[:space:]]*#' /etc/apt/sources.list /etc/apt/sources.list.d/*
  [ $? -le 2 ]
}

# Of what apt may believe, or may be told to by a source.
apt_keyrings() {
  sha256sum --zero /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d/* /etc/apt/keyrings/* /usr/share/keyrings/*
  [ $? -le 1 ]
}

fact os-release cat /etc/os-release
fact kernels find /boot -maxdepth 1 -name 'vmlinuz-*' -type f -printf '%f\n'
fact packages installed
# What `apt-mark` reads: that builds its index of all archives first, which takes an emulated machine seconds.
fact automatic cat /var/lib/apt/extended_states
fact apt-sources apt_sources
fact apt-keyrings apt_keyrings
fact sshd sshd_values
fact sysctl-configured sysctl_configured
fact sysctl-effective sysctl_effective
fact ports ports
fact files files
fact units systemctl list-unit-files --state=enabled,masked --no-legend --no-pager --plain
fact users getent passwd
# Whoever reads this knows by it that nothing was cut off.
printf '{"fact":"end","value":"","code":0}\n'
