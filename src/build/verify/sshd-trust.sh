# What this machine's SSH server trusts. Runs as root and changes nothing; prints one JSON object a line, values in
# base64.
#
#   LOGIN_USER  for whom sshd is asked
#   USERS       whose principals are wanted, one a line
#   PRINCIPALS_FOLDER  where files of principals lie; all of them are told
set -u
LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/sbin:/sbin; export PATH

fact() { printf '{"fact":"%s","value":"%s"}\n' "$1" "$(base64 -w0)"; }
effective() { sshd -T -C "user=$1,host=localhost,addr=127.0.0.1" 2>/dev/null | sed -n "s/^$2 //p" | head -n 1; }
# sshd_config(5), TOKENS
expand() {
  home=$(getent passwd "$2" | cut -d: -f6)
  path=$(printf '%s' "$1" | sed -e "s|%u|$2|g" -e "s|%h|$home|g" -e 's|%%|%|g')
  case $path in /*) printf '%s' "$path" ;; *) printf '%s/%s' "$home" "$path" ;; esac
}

ca=$(effective "$LOGIN_USER" trustedusercakeys)
printf '%s' "$ca" | fact ca-file
[ -f "$ca" ] && cat "$ca" | fact ca-keys
revoked=$(effective "$LOGIN_USER" revokedkeys)
[ "${revoked:-none}" = none ] || { [ -r "$revoked" ] && echo "$revoked" || echo "$revoked, which is not there"; } | fact revoked-keys
for user in $USERS; do
  file=$(effective "$user" authorizedprincipalsfile)
  { echo "$user"
    [ "${file:-none}" = none ] || { path=$(expand "$file" "$user"); echo "$path"; cat "$path" 2>/dev/null; }
  } | fact principals
done
find "$PRINCIPALS_FOLDER" ! -type d 2>/dev/null | while read -r path; do
  { echo "$path"; cat "$path" 2>/dev/null; } | fact principals-file
done
exit 0
