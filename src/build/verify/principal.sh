# Lets a clone's login user in by certificates with this principal. Runs as root.
#
#   LOGIN_USER  who logs in
#   PRINCIPAL   is added to this user's file of principals
set -eu
PATH=$PATH:/usr/sbin:/sbin; export PATH
file=$(sshd -T -C "user=$LOGIN_USER,host=localhost,addr=127.0.0.1" | sed -n 's/^authorizedprincipalsfile //p')
home=$(getent passwd "$LOGIN_USER" | cut -d: -f6)
path=$(printf %s "$file" | sed -e "s|%u|$LOGIN_USER|g" -e "s|%h|$home|g" -e 's|%%|%|g')
case $path in /*) ;; *) path=$home/$path ;; esac
mkdir -p "${path%/*}"
[ -e "$path" ] || { : > "$path"; chmod 644 "$path"; }
grep -qxF -e "$PRINCIPAL" "$path" || printf '\n%s\n' "$PRINCIPAL" >> "$path"
