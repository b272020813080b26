import type { ImageSpec, Layer, SshSpec } from '../definition/spec.ts'
import {
  AUTHORITIES_FILE,
  CERTIFICATES_DROP_IN as DROP_IN,
  PRINCIPALS_FOLDER,
  REVOKED_FILE,
} from '../definition/ssh-files.ts'
import { RELOAD_SSHD } from '../hardening/reload-sshd.ts'

/** Which certificates a template lets in. Public keys alone. */
export interface Certificates {
  /** public key lines of user CAs; none: nobody logs in by certificate */
  authorities: readonly string[]
  /** names in a certificate, by user; empty: the user's own name */
  principals: Readonly<Record<string, readonly string[]>>
  /** a KRL, or public keys, one a line */
  revokedKeys?: Uint8Array
}

/** What a target's images have where their definitions say nothing. */
export interface TargetCertificates {
  /** public key lines of user CAs */
  authorities: readonly string[]
  revokedKeys?: Uint8Array
}

const SECONDS = 300

/** What a target's CAs and a definition's `ssh` come to together. */
export function certificatesOf(ssh: SshSpec, target: TargetCertificates): Certificates {
  const revokedKeys = ssh.revokedKeys ?? target.revokedKeys
  return {
    authorities: ssh.ca ?? target.authorities,
    principals: ssh.principals,
    ...(revokedKeys && { revokedKeys }),
  }
}

/**
 * The layers that make sshd accept them. Without a CA there are those alone that refuse what the definition revokes,
 * since that shuts out plain keys as well; and where a parent's image is built upon, those that forget whom it lets in,
 * which is nobody's business but its own, and go on refusing what it refuses.
 */
export function certificateLayers(
  { ssh: { where, revokedKeys: own }, source }: Pick<ImageSpec, 'ssh' | 'source'>,
  { authorities, principals, revokedKeys }: Certificates,
): Layer[] {
  const inherits = source.kind === 'image'
  const shell = (name: string, script: string): Layer => ({
    kind: 'shell',
    name: `SSH certificates: ${name}`,
    where,
    timeoutSeconds: SECONDS,
    script: new TextEncoder().encode(script),
    user: 'root',
    env: {},
    secrets: {},
  })
  const forget = inherits ? [shell('nothing of the parent’s', FORGET)] : []
  const file = (path: string, content: string | Uint8Array): Layer => ({
    kind: 'file',
    name: `SSH certificates: ${path}`,
    where,
    timeoutSeconds: SECONDS,
    path,
    content: typeof content === 'string' ? new TextEncoder().encode(content) : content,
    mode: '0644',
    owner: 'root:root',
  })
  if (authorities.length === 0) {
    const refused = inherits ? revokedKeys : own
    return [
      ...forget,
      ...(refused === undefined ? [] : [file(REVOKED_FILE, refused)]),
      ...(inherits || refused !== undefined ? [shell('what is revoked is refused', REFUSE)] : []),
    ]
  }
  const users = Object.entries(principals)
  const settings = [
    `TrustedUserCAKeys ${AUTHORITIES_FILE}`,
    // There from the beginning, so that revoking something later takes no change of sshd's configuration.
    `RevokedKeys ${REVOKED_FILE}`,
    ...(users.length > 0 ? [`AuthorizedPrincipalsFile ${PRINCIPALS_FOLDER}/%u`] : []),
  ]
  return [
    ...forget,
    file(AUTHORITIES_FILE, lines(authorities)),
    // What a parent has revoked stays so where nobody says otherwise.
    inherits && revokedKeys === undefined
      ? shell(`${REVOKED_FILE}, where there is none`, KEEP_REVOKED)
      : file(REVOKED_FILE, revokedKeys ?? ''),
    ...users.map(([user, names]) => file(`${PRINCIPALS_FOLDER}/${user}`, lines(names))),
    file(DROP_IN, lines(settings)),
    shell('sshd agrees', AGREES),
  ]
}

/** All that these layers write, but for the list of what is revoked: that only ever shuts somebody out. */
const FORGET = `#!/bin/sh -eu
rm -rf '${DROP_IN}' '${AUTHORITIES_FILE}' '${PRINCIPALS_FOLDER}'
`

const KEEP_REVOKED = `#!/bin/sh -eu
[ -e '${REVOKED_FILE}' ] || install -m 0644 /dev/null '${REVOKED_FILE}'
`

/** A file that no Include reads would be a template that looks ready for certificates and is not. */
const agrees = (keyword: string, file: string) => `mkdir -p /run/sshd
sshd -t
if ! sshd -T | grep -qix '${keyword} ${file}'; then
  echo 'sshd does not read ${DROP_IN}, or something before it sets ${keyword}:' >&2
  echo 'its sshd_config needs the line: Include /etc/ssh/sshd_config.d/*.conf' >&2
  exit 1
fi
{ ${RELOAD_SSHD}; } 2>/dev/null || systemctl try-reload-or-restart sshd.service
`

const AGREES = `#!/bin/sh -eu
${agrees('TrustedUserCAKeys', AUTHORITIES_FILE)}`

/** An image without certificates may have no list. */
const REFUSE = `#!/bin/sh -eu
[ -e '${REVOKED_FILE}' ] || exit 0
umask 022
mkdir -p "$(dirname '${DROP_IN}')"
echo 'RevokedKeys ${REVOKED_FILE}' > '${DROP_IN}'
${agrees('RevokedKeys', REVOKED_FILE)}`

function lines(entries: readonly string[]): string {
  return entries.map((entry) => `${entry}\n`).join('')
}
