# How a machine starts its SSH server, and what a reload of it leaves: one JSON object a line, values in base64. Runs as
# root. Where a reload ends the server, it is started again as its service, so that more can be asked.
#
#   PORT  where it was reached
set -u
LC_ALL=C; export LC_ALL

fact() { printf '{"fact":"%s","value":"%s"}\n' "$1" "$(base64 -w0)"; }
# Numbers of the sockets that listen there: sshd opens new ones when it is reloaded.
listening() {
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
    awk -v port=":$(printf %04X "$PORT")$" '$2 ~ port && $4 == "0A" { print $10 }' | sort
}

for unit in ssh.service ssh.socket sshd.service sshd.socket; do
  # Another name of a unit is that unit.
  [ "$(systemctl show --property=Id --value "$unit" 2>/dev/null)" = "$unit" ] || continue
  [ "$(systemctl is-enabled "$unit" 2>/dev/null)" = enabled ] && echo "$unit"
done | fact enabled

service=
for unit in ssh.service sshd.service; do
  if systemctl --quiet is-active "$unit"; then service=$unit; break; fi
done
printf %s "$service" | fact reloaded
# Started for each connection, it reads its configuration each time.
[ -n "$service" ] || exit 0

server=$(systemctl show --property=MainPID --value "$service")
before=$(listening)
systemctl reload "$service" 2>&1 | fact said
# The signal is sent by then, and no more: sshd closes its sockets, begins anew, and opens others, which may take a while on
# a busy machine. A socket of systemd's stays the same.
seconds=0
while [ "$seconds" -lt 30 ] && [ -e "/proc/$server" ]; do
  sockets=$(listening)
  if [ -n "$sockets" ] && { [ "$sockets" != "$before" ] || [ "$seconds" -ge 10 ]; }; then break; fi
  sleep 1; seconds=$((seconds + 1))
done
if [ -n "$(listening)" ]; then echo yes | fact listens; exit 0; fi
journalctl --quiet --no-pager -n 5 -o cat -u "$service" 2>/dev/null | fact journal
systemctl stop ssh.socket sshd.socket 2>/dev/null
systemctl reset-failed "$service" 2>/dev/null
systemctl restart "$service"
exit 0
