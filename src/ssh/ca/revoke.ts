import { writeDurably } from '../../core/durable-file.ts'
import { ImagebuildError } from '../../core/errors.ts'
import type { Authority } from './authority.ts'
import { type Certificate, describeCertificate, fingerprintOf, isCertificate } from './certificate.ts'
import type { Issued, Revoked } from './issue-log.ts'
import { type CaKey, readRetiredPairs } from './pair.ts'
import { readRevocationList, withRevoked } from './revocation-list.ts'

export interface Revoke {
  /** serial number of a certificate, or the line of a certificate or public key */
  target: number | string
  /** for the log */
  reason?: string | undefined
}

export interface Revocation {
  /** false: it was revoked before, and nothing has changed */
  changed: boolean
  /** version of the list */
  version: number
  /** of the key that was revoked, or that the certificate was for */
  fingerprint: string
  /** of the certificate; missing where the key itself was revoked */
  serial?: number
}

/**
 * Adds a certificate, or a key with all its certificates, to the revocation list.
 * @throws ImagebuildError `not_found` for a serial number that was never given, `usage` for another CA's
 *   certificate and for the key that signs
 */
export async function revoke(
  { folder, pairs, log }: Authority,
  { target, reason }: Revoke,
  signal?: AbortSignal,
): Promise<Revocation> {
  await using _ = await folder.lock(signal)
  const list = await readRevocationList(folder.krl)
  const version = list.version + 1
  const all = [...pairs, ...(await readRetiredPairs(folder))].flatMap(({ user, host }) => [user, host])
  const why = reason !== undefined && { reason }

  const enter = async (record: Revoked, entry: Parameters<typeof withRevoked>[2]) => {
    const bytes = await withRevoked(folder.krl, version, entry)
    await log.append(record)
    await writeDurably(folder.krl, bytes, 0o644)
  }

  if (typeof target === 'string' && !isCertificate(target)) {
    const fingerprint = await fingerprintOf(target, signal)
    const [current] = pairs
    if (fingerprint === current?.user.fingerprint || fingerprint === current?.host.fingerprint) {
      throw new ImagebuildError({
        code: 'usage',
        what: 'the key of the CA itself cannot be revoked',
        why: 'it is the one that signs: all its certificates, also later ones, would be refused',
        next: 'make its successor first: imagebuild ssh-ca rotate',
      })
    }
    const changed = !list.keys.has(fingerprint)
    const publicKey = target.trim()
    if (changed) await enter({ event: 'revoked', krl: version, fingerprint, ...why }, { publicKey })
    return { changed, version: changed ? version : list.version, fingerprint }
  }

  const found =
    typeof target === 'number'
      ? issuedAs(target, (await log.read()).records)
      : await describeCertificate(target, signal)
  const { kind, serial, fingerprint } = found
  const ca = signerOf(found, all)
  const changed = !list.hasSerial(ca.fingerprint, serial)
  if (changed) {
    await enter(
      { event: 'revoked', krl: version, fingerprint, kind, serial, ca: ca.fingerprint, ...why },
      { serial, ca: ca.publicKey },
    )
  }
  return { changed, version: changed ? version : list.version, fingerprint, serial }
}

function issuedAs(serial: number, records: readonly { event: string }[]): Issued {
  const isVoid = records.some((record) => record.event === 'void' && (record as Issued).serial === serial)
  const found = records.find((record) => record.event === 'issued' && (record as Issued).serial === serial)
  if (found && !isVoid) return found as Issued
  throw new ImagebuildError({
    code: 'not_found',
    what: `there is no certificate with serial number ${serial}`,
    why: isVoid ? 'signing it failed' : 'the issue log has none',
    next: 'imagebuild ssh-ca show lists them',
  })
}

function signerOf({ ca, kind }: Pick<Certificate, 'ca' | 'kind'>, all: readonly CaKey[]): CaKey {
  const found = all.find(({ fingerprint }) => fingerprint === ca)
  if (found) return found
  throw new ImagebuildError({
    code: 'usage',
    what: `this ${kind} certificate cannot be revoked here`,
    why: `another CA has signed it: ${ca}`,
    next: 'name the folder of that CA (--folder), or revoke the key itself (its .pub file)',
  })
}
