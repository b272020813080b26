# Leaves one unit that starts the SSH server where two are enabled. The first boot of a machine without a machine-id
# enables whatever no preset disables, ssh.socket too. systemd then has the port, and a reload ends sshd, which wants it
# for itself. Runs as root.
#
# Whoever has chosen one has disabled the other, and nothing is done. Two are nobody's choice: what stays is what the
# package has enabled, which is the service on Debian, and the socket on Ubuntu.
#
#   ROOT  what stands before each path, and is not the running system; empty but in tests
set -eu

ctl() { systemctl --quiet ${ROOT:+--root="$ROOT"} "$@"; }
enabled() { [ "$(systemctl ${ROOT:+--root="$ROOT"} is-enabled "$1" 2>/dev/null)" = enabled ]; }
# dpkg's helper writes down each link that it makes for a package.
packaged() { [ -e "$ROOT/var/lib/systemd/deb-systemd-helper-enabled/$1" ]; }

if ! enabled ssh.socket || ! enabled ssh.service; then exit 0; fi
if packaged sockets.target.wants/ssh.socket && ! packaged multi-user.target.wants/ssh.service; then
  one=ssh.socket other=ssh.service
else
  one=ssh.service other=ssh.socket
fi
ctl disable "$other"
echo "ssh.socket and ssh.service were both enabled: $other is not any more"
if [ -n "$ROOT" ]; then exit 0; fi
# Sessions, such as the one that this comes by, go on.
ctl stop "$other"
ctl restart "$one"
