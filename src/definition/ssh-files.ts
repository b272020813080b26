import { normalize } from 'node:path/posix'
import type { Diagnostic } from './diagnostics.ts'
import { pathOfLayer } from './layers.ts'
import type { Layer } from './spec.ts'
import type { YamlFile } from './yaml-file.ts'

/** What `ssh` comes to in the guest: paths as in sshd_config(5). */
export const AUTHORITIES_FILE = '/etc/ssh/trusted_user_ca_keys'
export const PRINCIPALS_FOLDER = '/etc/ssh/auth_principals'
export const REVOKED_FILE = '/etc/ssh/revoked_keys'

/**
 * sshd takes the first value that it finds, and cloud-init writes 50-cloud-init.conf: ours sorts before that, and before
 * the hardening's.
 */
export const CERTIFICATES_DROP_IN = '/etc/ssh/sshd_config.d/05-imagebuild-certificates.conf'

const INSTEAD = new Map([
  [AUTHORITIES_FILE, '`ssh.ca` says whom it trusts'],
  [REVOKED_FILE, '`ssh.revokedKeys` says what it refuses'],
  [CERTIFICATES_DROP_IN, 'use another name for settings of your own'],
])

/** Files of layers that `ssh` would overwrite, or forget with what a parent trusts, after all layers. */
export function refuseSshFiles(
  layers: readonly Layer[],
  yaml: YamlFile,
  report: (found: Diagnostic) => void,
): void {
  for (const layer of layers) {
    if (layer.kind !== 'file') continue
    const path = normalize(layer.path)
    const hint = path.startsWith(`${PRINCIPALS_FOLDER}/`)
      ? '`ssh.principals` says who may log in as whom'
      : INSTEAD.get(path)
    if (hint === undefined) continue
    const span = yaml.at([...pathOfLayer(layer, yaml), 'file', 'path'])
    report(yaml.diagnostic(span, `\`ssh\` looks after ${layer.path} itself, after all layers`, hint))
  }
}
