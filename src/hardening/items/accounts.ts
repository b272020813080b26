import type { HardeningItem } from '../item.ts'

/** Debian's system accounts with a program as their shell that only does one harmless thing. */
const HARMLESS_SHELLS = '(nologin|false|sync|shutdown|halt)$'

/** Prints system accounts whose shell is none of these, one a line. */
const withShell = (harmless: string) =>
  `awk -F: -v min="$(awk '$1 == "UID_MIN" { print $2 }' /etc/login.defs)" '$1 != "root" && ($3 < min || $3 == 65534) && $7 !~ /${harmless}/ { print $1 }' /etc/passwd`

const SYSTEM_SHELLS = withShell(HARMLESS_SHELLS)

export const ACCOUNTS: readonly HardeningItem[] = [
  {
    id: 'accounts-su',
    title: 'su is for root and the empty group sugroup: everybody else has sudo',
    area: 'accounts',
    sources: ['CIS Debian 12 5.2.7'],
    profile: 'baseline',
    measures: {
      script: `getent group sugroup >/dev/null || groupadd --system sugroup
if [ -f /etc/pam.d/su ]; then
  sed -i '/^auth[[:space:]].*pam_wheel\\.so/d' /etc/pam.d/su
  sed -i '/^auth[[:space:]].*pam_rootok\\.so/a auth       required   pam_wheel.so use_uid group=sugroup' /etc/pam.d/su
fi`,
    },
    checks: [
      {
        title: 'su is restricted, though not for root',
        kind: 'file',
        path: '/etc/pam.d/su',
        present: true,
        contains:
          '^auth\\s+sufficient\\s+pam_rootok\\.so[^\\n]*\\nauth\\s+required\\s+pam_wheel\\.so use_uid group=sugroup$',
      },
      {
        title: 'Nobody is in the group',
        kind: 'command',
        command: 'getent group sugroup',
        exit: 0,
        output: '^sugroup:[^:]*:\\d+:$',
      },
    ],
  },
  {
    id: 'accounts-system-shells',
    title: 'System accounts have no shell, and those without a shell no password',
    area: 'accounts',
    sources: ['CIS Debian 12 5.4.2.7', 'CIS Debian 12 5.4.2.8'],
    profile: 'cis-l1',
    measures: {
      // `false` is as good as nologin, but scanners know only that.
      script: `${withShell(HARMLESS_SHELLS.replace('false|', ''))} | while read -r name; do usermod --shell /usr/sbin/nologin "$name"; done
awk -F: '$1 != "root" && $7 ~ /(nologin|false)$/ { print $1 }' /etc/passwd | while read -r name; do
  case "$(getent shadow "$name" | cut -d: -f2)" in [*!]*) ;; *) usermod --lock "$name" ;; esac
done`,
    },
    checks: [
      {
        title: 'No system account has a shell',
        kind: 'command',
        command: `[ -z "$(${SYSTEM_SHELLS} | tee /dev/stderr)" ]`,
        exit: 0,
      },
      {
        title: 'No account without a shell has a password',
        kind: 'command',
        command: `awk -F: 'NR == FNR { if ($7 ~ /(nologin|false)$/) closed[$1]; next } ($1 in closed) && $2 !~ /^[*!]/ { print $1; found = 1 } END { exit found }' /etc/passwd /etc/shadow`,
        exit: 0,
      },
    ],
  },
  {
    id: 'accounts-root',
    title: 'root alone has the rights of root',
    area: 'accounts',
    sources: [
      'CIS Debian 12 5.4.2.1 to 5.4.2.4',
      'CIS Debian 12 5.4.2.5',
      'dev-sec os-04',
      'lynis AUTH-9204',
    ],
    profile: 'baseline',
    measures: {},
    checks: [
      {
        title: 'Nobody else has UID 0 or GID 0',
        kind: 'command',
        command: `awk -F: '($3 == 0) != ($1 == "root") || ($4 == 0) != ($1 == "root") { print; found = 1 } END { exit found }' /etc/passwd && awk -F: '($3 == 0) != ($1 == "root") { print; found = 1 } END { exit found }' /etc/group`,
        exit: 0,
      },
      {
        title: "root's password is locked, or a hash",
        kind: 'command',
        command: 'getent shadow root | cut -d: -f2',
        exit: 0,
        output: '^([*!]|\\$(y|gy|6|5)\\$)',
      },
      {
        title: "root's path has folders of root alone",
        kind: 'command',
        command: `path=$(env -i HOME=/root sh -lc 'printf %s "$PATH"')
case ":$path:" in *::* | *:.:* | *:[!/]*) echo "$path"; exit 1 ;; esac
printf %s "$path" | tr : '\\n' | while read -r folder || [ -n "$folder" ]; do
  [ -d "$folder" ] || { echo "no folder: $folder"; exit 1; }
  [ -z "$(find -H "$folder" -maxdepth 0 \\( ! -user root -o -perm /022 \\))" ] || { ls -ld "$folder"; exit 1; }
done`,
        exit: 0,
      },
    ],
  },
  {
    id: 'accounts-consistent',
    title: 'Names and numbers of users and groups are there once, passwords only in shadow',
    area: 'accounts',
    sources: ['CIS Debian 12 7.2.1', 'CIS Debian 12 7.2.3 to 7.2.8', 'dev-sec os-07', 'lynis AUTH-9222'],
    profile: 'baseline',
    measures: { script: 'pwconv\ngrpconv' },
    checks: [
      {
        title: 'No name or number is there twice',
        kind: 'command',
        command:
          'for field in 1 3; do for file in /etc/passwd /etc/group; do cut -d: -f$field $file | sort | uniq -d; done; done | grep .',
        exit: 1,
      },
      {
        title: 'Passwords are in shadow only, and all groups are there',
        kind: 'command',
        command: `awk -F: 'NR == FNR { known[$3]; next } $2 != "x" || !($4 in known) { print; found = 1 } END { exit found }' /etc/group /etc/passwd`,
        exit: 0,
      },
      {
        title: 'Nobody is in the group shadow',
        kind: 'command',
        command: 'getent group shadow',
        exit: 0,
        output: '^shadow:[^:]*:\\d+:$',
      },
    ],
  },
  {
    id: 'accounts-home-files',
    title: "Hidden files in homes are their owners' alone",
    area: 'accounts',
    sources: [
      'CIS Debian 12 7.2.9',
      'CIS Debian 12 7.2.10',
      'dev-sec os-01',
      'dev-sec os-09',
      'lynis HOME-9304',
    ],
    profile: 'cis-l1',
    measures: {
      // /etc/skel is copied with its modes; the override is what dpkg keeps to.
      script: `for file in /etc/skel/.[!.]*; do
  [ -f "$file" ] || continue
  dpkg-statoverride --list "$file" >/dev/null || dpkg-statoverride --add --update root root 0640 "$file"
done
chmod 0700 /root
for home in /root /home/*; do
  [ -d "$home" ] || continue
  chmod g-w,o-rwx "$home"
  find "$home" -maxdepth 1 -type f -name '.*' -exec chmod u-x,g-wx,o-rwx {} +
done`,
    },
    checks: [
      {
        title: 'What is copied into new homes is closed',
        kind: 'command',
        command: 'find /etc/skel -mindepth 1 -type f -perm /0037 | grep .',
        exit: 1,
      },
      {
        title: 'Homes and their hidden files are closed to others',
        kind: 'command',
        command: `{ find /root /home -mindepth 0 -maxdepth 1 ! -path /home -type d -perm /0027
find /root /home/* -maxdepth 1 -type f -name '.*' -perm /0037; } 2>/dev/null | grep .`,
        exit: 1,
      },
      {
        title: 'No file there names hosts or passwords that are trusted',
        kind: 'command',
        command:
          'find /root /home -maxdepth 2 \\( -name .rhosts -o -name .shosts -o -name .netrc -o -name .forward \\) 2>/dev/null | grep .',
        exit: 1,
      },
    ],
  },
]
