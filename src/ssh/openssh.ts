import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { ImagebuildError } from '../core/errors.ts'

/** What OpenSSH's own tools make for us: keys, and the lines that its files want. */

export interface KeyPair {
  /** OpenSSH private key file, with its last newline; a secret */
  privateKey: string
  /** `ssh-ed25519 AAAA… comment`, without a newline */
  publicKey: string
}

/**
 * A fresh ed25519 key pair without a passphrase, by ssh-keygen, in a directory of mode 0700 that is gone afterwards.
 * @param comment ends the public key; people read it in authorized_keys
 * @throws ImagebuildError `prerequisite_missing` without ssh-keygen, else `internal`
 */
export async function generateKeyPair(comment: string, signal?: AbortSignal): Promise<KeyPair> {
  const directory = await mkdtemp(join(tmpdir(), 'imagebuild-key-'))
  try {
    const file = join(directory, 'key')
    await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', file], {
      stdin: 'ignore',
      ...(signal && { cancelSignal: signal }),
    })
    const [privateKey, publicKey] = await Promise.all([
      readFile(file, 'utf8'),
      readFile(`${file}.pub`, 'utf8'),
    ])
    return { privateKey, publicKey: publicKey.trim() }
  } catch (cause) {
    signal?.throwIfAborted()
    const missing = (cause as { code?: string }).code === 'ENOENT'
    throw new ImagebuildError({
      code: missing ? 'prerequisite_missing' : 'internal',
      what: 'no SSH key could be made',
      why: missing ? 'ssh-keygen is not installed' : (cause as Error).message,
      ...(missing && { next: 'apt-get install openssh-client' }),
      cause,
    })
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/**
 * One line for a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT); another port than 22 goes into brackets.
 * @param publicKey a public key line; its comment is left out
 */
export function knownHostsLine(host: string, port: number, publicKey: string): string {
  const [type, key] = publicKey.trim().split(/\s+/)
  return `${port === 22 ? host : `[${host}]:${port}`} ${type} ${key}\n`
}
