# Makes a clone's SSH server trust a second CA beside the configured ones, for as long as logins are tried. Runs as root.
#
#   LOGIN_USER  who logs in
#   CA          public key line of the CA; empty: none is added
#   KRL         its revocation list, in base64
#   PASSWORD    becomes this user's
set -eu
LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/sbin:/sbin; export PATH

effective() { sshd -T -C "user=$LOGIN_USER,host=localhost,addr=127.0.0.1" 2>/dev/null | sed -n "s/^$1 //p" | head -n 1; }
own=/etc/ssh/imagebuild-verify
config=/etc/ssh/sshd_config
mkdir -p "$own"
chmod 755 "$own"

# The first value that sshd reads counts: ours must come before whatever the image says.
if [ -n "$CA" ]; then
  trusted=$(effective trustedusercakeys)
  { [ -f "$trusted" ] && cat "$trusted"; echo; printf '%s\n' "$CA"; } | grep . > "$own/ca"
  printf %s "$KRL" | base64 -d > "$own/krl"
fi
{
  if [ -n "$CA" ]; then echo "TrustedUserCAKeys $own/ca"; echo "RevokedKeys $own/krl"; fi
  # From OpenSSH 9.8 on, whoever is refused too often is not listened to for a while.
  if sshd -T 2>/dev/null | grep -q '^persourcepenalties'; then echo 'PerSourcePenalties no'; fi
} > "$own/sshd.conf"
chmod 644 "$own"/*
cp -a "$config" "$own/sshd_config.before"
{ echo "Include $own/sshd.conf"; cat "$own/sshd_config.before"; } > "$config"

# Refused logins are what fail2ban and its like wait for.
systemctl stop fail2ban.service sshguard.service crowdsec.service 2>/dev/null || true

printf '%s:%s\n' "$LOGIN_USER" "$PASSWORD" | chpasswd
case $(getent shadow "$LOGIN_USER" | cut -d: -f2) in '$'*) ;; *) echo 'the password was not taken' >&2; exit 1 ;; esac

sshd -t
# Where systemd has the port, a reload would end it: the next connection starts it anew, and it reads its configuration.
if systemctl is-active --quiet ssh.socket; then systemctl stop ssh.service; exit 0; fi
# One of them may be only another name of the other.
for unit in ssh.service sshd.service; do
  if systemctl is-active --quiet "$unit"; then systemctl reload "$unit"; break; fi
done
exit 0
