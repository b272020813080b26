import { execa } from 'execa'
import { ImagebuildError } from '../../core/errors.ts'

/** ssh-keygen, which does all that touches keys, certificates and revocation lists. */

const ASKPASS = new URL('askpass.sh', import.meta.url).pathname

export interface KeygenOptions {
  /** what fails if it fails: `the certificate could not be signed` */
  what: string
  /** answers all its questions; without one it asks nobody, and fails where it has to */
  passphrase?: string | undefined
  input?: string
  signal?: AbortSignal | undefined
}

/**
 * Runs ssh-keygen and gives its standard output. Times are UTC.
 * @throws ImagebuildError `prerequisite_missing` without ssh-keygen or an agent, `permission_denied` where the passphrase
 *   is wrong, else `usage` with its own words
 */
export async function keygen(args: readonly string[], options: KeygenOptions): Promise<string> {
  const { what, passphrase, input = '', signal } = options
  const { failed, code, stdout, stderr, shortMessage } = await execa('ssh-keygen', args, {
    input,
    env: {
      LC_ALL: 'C',
      TZ: 'UTC',
      SSH_ASKPASS_REQUIRE: 'force',
      SSH_ASKPASS: passphrase === undefined ? '/bin/false' : ASKPASS,
      ...(passphrase !== undefined && { IMAGEBUILD_CA_PASSPHRASE: passphrase }),
    },
    reject: false,
    ...(signal && { cancelSignal: signal }),
  })
  if (!failed) return stdout
  signal?.throwIfAborted()
  if (code === 'ENOENT') throw missing('ssh-keygen', what)
  const why = stderr.trim() || (shortMessage ?? 'ssh-keygen failed')
  if (/incorrect passphrase|bad passphrase/i.test(why)) {
    throw new ImagebuildError({
      code: 'permission_denied',
      what,
      why: passphrase === undefined ? 'the key is locked by a passphrase' : 'the passphrase is wrong',
      next: 'give the right one: --passphrase env:NAME, file:/path or cmd:command',
    })
  }
  if (/agent (not present|key list|refused|contains)|in agent/i.test(why)) throw agentFailed(what, why)
  throw new ImagebuildError({ code: 'usage', what, why, next: 'ssh-keygen says so; ssh-keygen(1) says more' })
}

/** The public keys that ssh-agent holds, as lines; certificates are none. */
export async function agentKeys(what: string, signal?: AbortSignal): Promise<string[]> {
  const { failed, code, exitCode, stdout, stderr } = await execa('ssh-add', ['-L'], {
    stdin: 'ignore',
    env: { LC_ALL: 'C' },
    reject: false,
    ...(signal && { cancelSignal: signal }),
  })
  signal?.throwIfAborted()
  if (code === 'ENOENT') throw missing('ssh-add', what)
  // 1 is an agent without keys, 2 is no agent.
  if (failed && exitCode !== 1) throw agentFailed(what, stderr.trim())
  return failed ? [] : stdout.split('\n').filter((line) => !line.includes('-cert-v01@openssh.com '))
}

/** Whether an ssh-agent is here that signs with the key of this line. */
export async function isInAgent(publicKey: string, signal?: AbortSignal): Promise<boolean> {
  const held = await agentKeys('', signal).catch(() => [])
  signal?.throwIfAborted()
  return held.some((line) => withoutComment(line) === withoutComment(publicKey))
}

/** Of a public key line: the comment is no part of the key. */
export function withoutComment(line: string): string {
  return line.trim().split(/\s+/).slice(0, 2).join(' ')
}

/** True if the private key in this file asks for a passphrase. */
export async function isLocked(file: string, signal?: AbortSignal): Promise<boolean> {
  try {
    await keygen(['-y', '-P', '', '-f', file], { what: `${file} cannot be read`, signal })
    return false
  } catch (error) {
    if (error instanceof ImagebuildError && error.code === 'permission_denied') return true
    throw error
  }
}

/** A passphrase that ssh-keygen would understand otherwise than it was meant: it reads one line of 1023 bytes. */
export function checkPassphrase(passphrase: string): void {
  const why =
    passphrase === ''
      ? 'it is empty'
      : /[\r\n\0]/.test(passphrase)
        ? 'it has more than one line'
        : Buffer.byteLength(passphrase) > 1023
          ? 'it is longer than 1023 bytes'
          : undefined
  if (why === undefined) return
  throw new ImagebuildError({
    code: 'usage',
    what: 'this passphrase cannot be used',
    why,
    next: 'choose a passphrase of one line',
  })
}

function missing(program: string, what: string): ImagebuildError {
  return new ImagebuildError({
    code: 'prerequisite_missing',
    what,
    why: `${program} is not installed`,
    next: 'apt-get install openssh-client',
  })
}

function agentFailed(what: string, why: string): ImagebuildError {
  return new ImagebuildError({
    code: 'prerequisite_missing',
    what,
    why: `ssh-agent: ${why}`,
    next: 'see that SSH_AUTH_SOCK is set and that `ssh-add -L` lists the key of the CA',
  })
}
