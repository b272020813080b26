# Looks for what a build leaves behind, and for what two clones must not have in common. Runs as root and changes
# nothing; prints one JSON object a line, values in base64. Paths begin with $ROOT, which is empty but in tests.
#
#   ROOT         what stands before each path
#   KIND         vm or lxc
#   BUILD_USER   the account that virtual machines are built with
#   LOGIN_USER   who looks, and LOGIN_KEY, the base64 part of the public key that the clone was given; both may be empty
#   KNOWN_KEYS   base64 parts of the public keys that the definition names, one a line
#   KNOWN_PATHS  files that the definition writes, one a line
#   ANY_KEYS     1 where users other than root may have keys that the definition does not name
set -u
LC_ALL=C; export LC_ALL

left() { printf '{"left":"%s","path":"%s","detail":"%s"}\n' "$1" "$(printf %s "${2#"$ROOT"}" | base64 -w0)" "$(printf %s "$3" | base64 -w0)"; }
listed() { [ -n "$1" ] && printf '%s\n' "$2" | grep -qxF -e "$1"; }
written() { listed "${1#"$ROOT"}" "$KNOWN_PATHS"; }
# By what the shell has built in: it is asked of many files.
private() {
  [ -r "$1" ] || return 1
  line=
  IFS= read -r line < "$1" || [ -n "$line" ] || return 1
  case $line in *'-----BEGIN '*'PRIVATE KEY-----'*) return 0 ;; *) return 1 ;; esac
} 2>/dev/null

# --- the builder's account
for file in passwd group shadow gshadow subuid subgid passwd- group- shadow- gshadow- subuid- subgid-; do
  grep -q "^$BUILD_USER:" "$ROOT/etc/$file" 2>/dev/null && left builder "$ROOT/etc/$file" "names $BUILD_USER"
done
for path in "$ROOT/home/$BUILD_USER" "$ROOT/var/spool/cron/crontabs/$BUILD_USER" "$ROOT/var/mail/$BUILD_USER" \
  "$ROOT/var/lib/systemd/linger/$BUILD_USER" "$ROOT/var/lib/sudo/lectured/$BUILD_USER"; do
  [ -e "$path" ] && left builder "$path" "of $BUILD_USER"
done
# Who logged in, in files and, since Debian 13, in databases.
for log in "$ROOT"/var/log/wtmp "$ROOT"/var/log/btmp "$ROOT"/var/lib/wtmpdb/wtmp.db "$ROOT"/var/lib/lastlog/lastlog2.db; do
  grep -qsaw "$BUILD_USER" "$log" && left builder "$log" "knows of a login of $BUILD_USER"
done
for rules in "$ROOT"/etc/sudoers "$ROOT"/etc/sudoers.d/*; do
  grep -qE "^(# User rules for )?$BUILD_USER( |\$)" "$rules" 2>/dev/null && left builder "$rules" "names $BUILD_USER"
done

# --- homes: keys, histories, tokens
homes=$({ echo /root; cut -d: -f6 "$ROOT/etc/passwd"; for home in "$ROOT"/home/*; do echo "${home#"$ROOT"}"; done; } 2>/dev/null |
  grep -vxE '|/|/(bin|dev|proc|run|sys|sbin|usr/.*|nonexistent|home/\*)' | sort -u)
own_home=
[ -n "$LOGIN_USER" ] && own_home=$(grep "^$LOGIN_USER:" "$ROOT/etc/passwd" | cut -d: -f6)

keys_in() { # file, whose
  while read -r line || [ -n "$line" ]; do
    case $line in '' | '#'*) continue ;; esac
    body=$(printf '%s\n' "$line" | grep -oE 'AAAA[0-9A-Za-z+/]{20,}={0,3}' | head -n 1)
    [ -n "$LOGIN_KEY" ] && [ "$body" = "$LOGIN_KEY" ] && continue
    listed "$body" "$KNOWN_KEYS" && continue
    [ "$2" = other ] && [ "$ANY_KEYS" = 1 ] && continue
    left authorized-key "$1" "$(printf '%s' "$line" | sed -E 's/AAAA[^ ]{12,}([^ ]{12})/…\1/' | cut -c 1-160)"
  done < "$1"
}

for home in $homes; do
  here=$ROOT$home
  [ -d "$here" ] || continue
  whose=other; [ "$home" = /root ] && whose=root
  for file in "$here"/.ssh/authorized_keys "$here"/.ssh/authorized_keys2; do [ -f "$file" ] && keys_in "$file" "$whose"; done
  for file in "$here"/.ssh/*; do
    [ -f "$file" ] && private "$file" && ! written "$file" && left private-key "$file" "$(head -n 1 "$file")"
  done
  for name in .bash_history .sh_history .zsh_history .ash_history .ksh_history .history .local/share/fish/fish_history \
    .lesshst .viminfo .python_history .mysql_history .psql_history .sqlite_history .node_repl_history .rediscli_history .wget-hsts; do
    [ -e "$here/$name" ] && ! written "$here/$name" && left history "$here/$name" "$(wc -l < "$here/$name" | tr -d ' ') lines"
  done
  [ "$home" != "$own_home" ] && [ -e "$here/.sudo_as_admin_successful" ] && left history "$here/.sudo_as_admin_successful" 'somebody has used sudo'
  for name in .netrc .git-credentials .config/git/credentials .docker/config.json .aws/credentials .config/gh/hosts.yml \
    .vault-token .pypirc .kube/config .config/gcloud/credentials.db .azure/accessTokens.json .terraform.d/credentials.tfrc.json; do
    [ -e "$here/$name" ] && ! written "$here/$name" && left token "$here/$name" 'holds credentials'
  done
  [ -f "$here/.npmrc" ] && grep -qs '_authToken' "$here/.npmrc" && ! written "$here/.npmrc" && left token "$here/.npmrc" 'holds a token'
done
for file in "$ROOT"/etc/ssh/authorized_keys "$ROOT"/etc/ssh/authorized_keys/* "$ROOT"/etc/ssh/authorized_keys.d/*; do
  [ -f "$file" ] && keys_in "$file" other
done

# --- /etc/ssh: a clone has host keys of its own and no other private key
find "$ROOT/etc/ssh" -type f 2>/dev/null | while read -r file; do
  case ${file##*/} in ssh_host_rsa_key | ssh_host_ecdsa_key | ssh_host_ed25519_key | ssh_host_dsa_key)
    [ "${file%/*}" = "$ROOT/etc/ssh" ] && continue ;;
  esac
  private "$file" && ! written "$file" && left private-key "$file" "$(head -n 1 "$file")"
done
for file in "$ROOT"/etc/ssh/ssh_host_*_key.pub; do
  grep -qs ' imagebuild-host-' "$file" && left host-key "$file" "the build's: $(cut -d' ' -f3- "$file")"
done
# cloud-init deletes host keys that it finds on a first boot: then the template had them.
grep -hso 'Attempting to remove /etc/ssh/ssh_host_[A-Za-z0-9_.]*' "$ROOT/var/log/cloud-init.log" | sort -u | while read -r line; do
  left host-key "$ROOT${line##* }" 'was in the template; cloud-init has replaced it'
done

# --- the seed and what cloud-init has made of it
for file in "$ROOT"/var/lib/cloud/seed/*/*; do [ -f "$file" ] && left seed "$file" 'of a build'; done
current=
if [ "$KIND" = vm ] || [ -e "$ROOT/run/cloud-init/result.json" ]; then
  current=$(readlink "$ROOT/var/lib/cloud/instance" 2>/dev/null); current=${current##*/}
fi
for instance in "$ROOT"/var/lib/cloud/instances/*; do
  [ -d "$instance" ] && [ "${instance##*/}" != "$current" ] && left cloud-init "$instance" 'instance data of another machine'
done
previous=$(cat "$ROOT/var/lib/cloud/data/previous-instance-id" 2>/dev/null)
# Of its two stages at boot, the second has seen the first.
case $previous in '' | NO_PREVIOUS_INSTANCE_ID | "$current") ;; *)
  left cloud-init "$ROOT/var/lib/cloud/data/previous-instance-id" "cloud-init has seen the machine ${previous} before this one" ;;
esac

# --- the network of another machine: its card, its leases
own_cards=$(cat "$ROOT"/sys/class/net/*/address 2>/dev/null)
for file in "$ROOT"/etc/netplan/*.yaml "$ROOT"/etc/network/interfaces "$ROOT"/etc/network/interfaces.d/* \
  "$ROOT"/etc/systemd/network/*.network "$ROOT"/etc/systemd/network/*.link \
  "$ROOT"/etc/NetworkManager/system-connections/* "$ROOT"/etc/udev/rules.d/70-persistent-net.rules; do
  [ -f "$file" ] && ! written "$file" || continue
  grep -oiE '([0-9a-f]{2}:){5}[0-9a-f]{2}' "$file" | tr 'A-F' 'a-f' | sort -u | while read -r card; do
    printf '%s\n' "$own_cards" | grep -qx "$card" || left network "$file" "names the card $card, which this machine has not"
  done
done
own_addresses=$(ip -o -4 addr show 2>/dev/null | awk '{ sub("/.*", "", $4); print $4 }')
for file in "$ROOT"/var/lib/dhcp/*.leases "$ROOT"/var/lib/dhclient/* "$ROOT"/var/lib/NetworkManager/*.lease; do
  [ -f "$file" ] || continue
  sed -nE 's/^[[:space:]]*fixed-address ([0-9.]+);.*/\1/p; s/^ADDRESS=([0-9.]+)$/\1/p' "$file" | sort -u | while read -r address; do
    printf '%s\n' "$own_addresses" | grep -qxF "$address" || left lease "$file" "a lease for $address, which this machine has not"
  done
done

# --- logs, and whatever else names a run of a build
id=$(cat "$ROOT/etc/machine-id" 2>/dev/null)
for journal in "$ROOT"/var/log/journal/*; do
  [ -d "$journal" ] && [ "${journal##*/}" != "$id" ] && [ "${journal##*/}" != "$id.sshd" ] && left journal "$journal" 'the journal of another machine'
done
grep -rlsE 'imagebuild-(host-)?[0-9a-f]{8}([^0-9a-z-]|$)' "$ROOT/etc" "$ROOT/root" "$ROOT/home" "$ROOT/opt" "$ROOT/srv" "$ROOT/usr/local" \
  "$ROOT/var/lib/cloud" "$ROOT/var/lib/dhcp" "$ROOT/var/log" "$ROOT/var/spool" 2>/dev/null | while read -r file; do
  left trace "$file" "$(grep -aohE -m 1 'imagebuild-(host-)?[0-9a-f]{8}' "$file" | head -n 1) is named in it"
done
find "$ROOT/etc" "$ROOT/root" "$ROOT/usr/local" "$ROOT/opt" -xdev \( -name '.imagebuild.??????????' -o -name 'imagebuild-prepare*' \) 2>/dev/null | while read -r file; do
  left trace "$file" 'of a build'
done
exit 0
