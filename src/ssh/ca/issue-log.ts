import { open, readFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { ImagebuildError } from '../../core/errors.ts'
import type { CertificateKind } from './certificate.ts'

/**
 * What a CA has done, one JSON object a line, only ever appended to. Dates are ISO 8601 in UTC. A certificate is
 * written down before it is signed, so that none exists which is not in here.
 */

export interface Issued {
  event: 'issued'
  kind: CertificateKind
  serial: number
  identity: string
  principals: string[]
  validFrom: string
  validTo: string
  /** of the certified key */
  fingerprint: string
  /** fingerprint of the CA's key */
  ca: string
  options?: string[]
}

/** Signing failed: there is no certificate with this serial number. */
export interface Void {
  event: 'void'
  serial: number
  why: string
}

export interface Revoked {
  event: 'revoked'
  /** version of the revocation list that has it first */
  krl: number
  /** of the key that was revoked, or that the certificate was for */
  fingerprint: string
  /** of a certificate; without them, the key itself was revoked, with all its certificates */
  kind?: CertificateKind
  serial?: number
  ca?: string
  reason?: string
}

/** A pair of CAs came or went. */
export interface Pair {
  event: 'created' | 'retired'
  generation: number
  userCa: string
  hostCa: string
}

export type LogEvent = Issued | Void | Revoked | Pair
export type LogRecord = LogEvent & { time: string; by: string }

export class IssueLog {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /** All records, oldest first, and the numbers of lines that are none (a crash may cut the last one short). */
  async read(): Promise<{ records: LogRecord[]; damaged: number[]; lastSerial: number }> {
    const records: LogRecord[] = []
    const damaged: number[] = []
    let lastSerial = 0
    const text = await this.#text()
    for (const [index, line] of text.split('\n').entries()) {
      if (line === '') continue
      // Also of a damaged line: a serial number is never given twice.
      lastSerial = Math.max(lastSerial, Number(/"serial":(\d+)/.exec(line)?.[1] ?? 0))
      try {
        records.push(JSON.parse(line))
      } catch {
        damaged.push(index + 1)
      }
    }
    return { records, damaged, lastSerial }
  }

  /** It has reached the disk when this returns. */
  async append(event: LogEvent): Promise<void> {
    const text = await this.#text()
    const begin = text === '' || text.endsWith('\n') ? '' : '\n'
    const record = { time: new Date().toISOString(), by: whoever(), ...event }
    const file = await open(this.path, 'a', 0o600)
    try {
      await file.appendFile(`${begin}${JSON.stringify(record)}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
  }

  async #text(): Promise<string> {
    try {
      return await readFile(this.path, 'utf8')
    } catch (cause) {
      throw new ImagebuildError({
        code: 'prerequisite_missing',
        what: 'the issue log of the SSH CA cannot be read',
        why: (cause as Error).message,
        next: `bring ${this.path} back from a backup: without it serial numbers would begin anew`,
        cause,
      })
    }
  }
}

/** `user@machine`; through sudo, the person who called it. */
function whoever(): string {
  return `${process.env.SUDO_USER ?? userInfo().username}@${hostname()}`
}
