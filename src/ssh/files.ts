import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { posix } from 'node:path'
import { Readable } from 'node:stream'
import { ImagebuildError } from '../core/errors.ts'
import { quote } from '../core/shell-word.ts'
import type { CommandOptions } from './command.ts'

/**
 * Files in and out of a guest, by the shell and not by SFTP: SFTP cannot become root by sudo, and a hardened
 * guest may not have it.
 */

export interface UploadOptions {
  /** permission bits, default 0o644 */
  mode?: number
  /** `user`, `user:group` or numbers; default whoever writes */
  owner?: string
  /** as root */
  sudo?: boolean
  /** default TRANSFER_SECONDS */
  seconds?: number
  signal?: AbortSignal
}

/** Seconds for one file. A dead connection is noticed much sooner; this is for a guest that is merely slow. */
export const TRANSFER_SECONDS = 900

/**
 * Writes beside the file, compares the size (a connection that is lost looks like the end of the input), then
 * renames: nobody ever sees half of it. The parent directories get 0755 whatever the umask.
 */
export async function uploadFile(
  run: (command: string, options: CommandOptions) => Promise<{ code: number; stderr: string }>,
  source: Uint8Array | string,
  remotePath: string,
  options: UploadOptions,
): Promise<void> {
  const { mode = 0o644, owner, seconds = TRANSFER_SECONDS, sudo, signal } = options
  const size = typeof source === 'string' ? (await stat(source)).size : source.byteLength
  const [target, directory] = [quote(remotePath), quote(posix.dirname(remotePath))]
  const script = [
    'set -e',
    `umask 022; mkdir -p -- ${directory}; umask 077`,
    `new=$(mktemp -- ${directory}/.imagebuild.XXXXXXXXXX)`,
    `trap 'rm -f -- "$new"' EXIT`,
    'cat >"$new"',
    `size=$(stat -c %s -- "$new")`,
    `[ "$size" = ${size} ] || { echo "$size bytes arrived instead of ${size}" >&2; exit 1; }`,
    ...(owner === undefined ? [] : [`chown -- ${quote(owner)} "$new"`]),
    // After chown, which takes set-user-ID bits away.
    `chmod -- ${mode.toString(8)} "$new"`,
    `mv -fT -- "$new" ${target}`,
    'trap - EXIT',
  ].join('\n')
  const stdin = typeof source === 'string' ? createReadStream(source) : Readable.from([source])
  const { code, stderr } = await run(script, {
    stdin,
    seconds,
    ...(sudo !== undefined && { sudo }),
    ...(signal && { signal }),
  })
  if (code === 0) return
  throw new ImagebuildError({
    code: 'build_failed',
    what: `${remotePath} cannot be written in the guest`,
    why: stderr.trim() || `exit code ${code}`,
  })
}
