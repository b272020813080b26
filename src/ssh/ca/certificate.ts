import { readFile } from 'node:fs/promises'
import { ImagebuildError } from '../../core/errors.ts'
import { keygen } from './keygen.ts'

/** Public keys and certificates, read with the eyes of ssh-keygen. */

export interface Certificate {
  kind: CertificateKind
  serial: number
  identity: string
  principals: string[]
  /** `SHA256:…` of the certified key */
  fingerprint: string
  /** `SHA256:…` of the key that signed */
  ca: string
  /** missing: since ever */
  validFrom?: Date
  /** missing: for ever */
  validTo?: Date
}

export type CertificateKind = 'user' | 'host'

const PUBLIC_KEY = /^(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-\S+ [A-Za-z0-9+/]+=*(?: [^\n\r]*)?$/

/** True for a certificate line, false for a plain public key. */
export function isCertificate(line: string): boolean {
  return /^\S+-cert-v01@openssh\.com /.test(line)
}

/**
 * The one public key or certificate in a file, without its newline.
 * @throws ImagebuildError `usage` where it is something else, a private key above all
 */
export async function readPublicKey(file: string): Promise<string> {
  const fail = (why: string, next: string, cause?: unknown) =>
    new ImagebuildError({ code: 'usage', what: `${file} is no public key`, why, next, cause })
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT' && file.endsWith('.pub')) {
      const missing = `ssh-keygen -t ed25519 -f ${file.slice(0, -'.pub'.length)} makes a pair of keys`
      throw fail('there is no such file', missing, cause)
    }
    throw fail(cause.message, 'name the file of a public key, which ends with .pub', cause)
  })
  if (text.includes('PRIVATE KEY')) {
    throw fail('it is a private key, which nobody should get', `name the public half: ${file}.pub`)
  }
  const lines = text.split('\n').map((line) => line.trim())
  const keys = lines.filter((line) => line !== '' && !line.startsWith('#'))
  if (keys.length !== 1 || !PUBLIC_KEY.test(keys[0] as string)) {
    const why =
      keys.length > 1 ? `it holds ${keys.length} lines` : 'it is not one line of type, key and comment'
    throw fail(why, 'name a file with one public key, as ssh-keygen writes it')
  }
  return keys[0] as string
}

/**
 * `SHA256:…` of a public key line (or of the key inside a certificate).
 * @throws ImagebuildError `usage` if ssh-keygen cannot read it
 */
export async function fingerprintOf(line: string, signal?: AbortSignal): Promise<string> {
  const described = await keygen(['-l', '-f', '-'], {
    what: `this is no public key: ${line.slice(0, 60)}`,
    input: `${line}\n`,
    signal,
  })
  return described.split(' ')[1] as string
}

/** @throws ImagebuildError `usage` if it is no certificate */
export async function describeCertificate(line: string, signal?: AbortSignal): Promise<Certificate> {
  const text = await keygen(['-L', '-f', '-'], {
    what: `this is no certificate: ${line.slice(0, 60)}`,
    input: `${line}\n`,
    signal,
  })
  const field = (pattern: RegExp) => pattern.exec(text)?.[1] ?? ''
  const validity = field(/^ *Valid: (.*)$/m)
  const date = (pattern: RegExp) => {
    const found = pattern.exec(validity)?.[1]
    return found === undefined ? undefined : new Date(`${found}Z`)
  }
  const validFrom = date(/(?:from|after) (\S+)/)
  const validTo = date(/(?:to|before) (\S+)/)
  return {
    kind: field(/^ *Type: \S+ (user|host) certificate$/m) as CertificateKind,
    serial: Number(field(/^ *Serial: (\d+)$/m)),
    identity: field(/^ *Key ID: "(.*)"$/m),
    principals: field(/^ *Principals: *\n((?: {10,}.*\n)*)/m)
      .split('\n')
      .map((name) => name.trim())
      .filter((name) => name !== '' && name !== '(none)'),
    fingerprint: field(/^ *Public key: \S+ (\S+)/m),
    ca: field(/^ *Signing CA: \S+ (\S+)/m),
    ...(validFrom && { validFrom }),
    ...(validTo && { validTo }),
  }
}
