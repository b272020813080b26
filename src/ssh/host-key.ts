import { createHash } from 'node:crypto'
import { ImagebuildError } from '../core/errors.ts'

/**
 * The one key that a guest may present. It is known before the first packet: either the public key itself
 * (`ssh-ed25519 AAAA… comment`) or its fingerprint as OpenSSH prints it (`SHA256:…`).
 */
export interface HostKeyPin {
  /** host key algorithms to ask the server for, so that it presents the pinned key and not another of its own */
  algorithms: ServerHostKeyAlgorithm[]
  /** `SHA256:…`, as `ssh-keygen -l` prints it */
  fingerprint: string
  /** true if this public key (SSH wire format) is the pinned one */
  matches(blob: Buffer): boolean
}

export type ServerHostKeyAlgorithm =
  | 'ssh-ed25519'
  | 'ecdsa-sha2-nistp256'
  | 'ecdsa-sha2-nistp384'
  | 'ecdsa-sha2-nistp521'
  | 'rsa-sha2-512'
  | 'rsa-sha2-256'

/** Key type → signature algorithms (RFC 8332: an `ssh-rsa` key signs with SHA-2). */
const ALGORITHMS: Record<string, ServerHostKeyAlgorithm[]> = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
}

/**
 * `SHA256:…` of a public key line or of the key in SSH wire format, unpadded base64 as OpenSSH prints it.
 * @throws ImagebuildError `internal` if the text is no public key line
 */
export function fingerprint(publicKey: string | Buffer): string {
  const blob = typeof publicKey === 'string' ? publicKeyBlob(publicKey) : publicKey
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`
}

/** Whether the text is a public key line of a type that is known here. */
export function isPublicKeyLine(text: string): boolean {
  try {
    return publicKeyBlob(text).length > 0
  } catch {
    return false
  }
}

/**
 * Understands a pinned host key.
 * @throws ImagebuildError `internal` if it is neither a public key line nor a SHA256 fingerprint
 */
export function parseHostKeyPin(hostKey: string): HostKeyPin {
  const text = hostKey.trim()
  if (/^SHA256:[A-Za-z0-9+/]{43}$/.test(text)) {
    // The key type behind a fingerprint is unknown: every type is asked for, ours first.
    return {
      algorithms: Object.values(ALGORITHMS).flat(),
      fingerprint: text,
      matches: (blob) => fingerprint(blob) === text,
    }
  }
  const pinned = publicKeyBlob(text)
  return {
    algorithms: ALGORITHMS[text.split(/\s+/, 1)[0] as string] as ServerHostKeyAlgorithm[],
    fingerprint: fingerprint(pinned),
    matches: (blob) => blob.equals(pinned),
  }
}

/** The key inside a public key line; its type is written twice (RFC 4253, section 6.6), and both must agree. */
function publicKeyBlob(line: string): Buffer {
  const [type = '', base64 = ''] = line.trim().split(/\s+/)
  const blob = Buffer.from(base64, 'base64')
  const length = blob.length > 4 ? blob.readUInt32BE(0) : 0
  if (!(type in ALGORITHMS) || blob.toString('latin1', 4, 4 + length) !== type) {
    throw new ImagebuildError({
      code: 'internal',
      what: 'a pinned SSH host key cannot be understood',
      why: `it starts with ${JSON.stringify(line.slice(0, 24))}, which is neither a public key line nor SHA256:…`,
    })
  }
  return blob
}
