import type { Authority } from './authority.ts'
import type { Issued, LogRecord, Revoked } from './issue-log.ts'
import { readRevocationList } from './revocation-list.ts'

/** What a CA has done and what of it still holds. */

export interface Inventory {
  folder: string
  /** newest first; the first one signs */
  authorities: {
    generation: number
    signs: boolean
    userCa: ListedKey
    hostCa: ListedKey
  }[]
  /** in the order of their serial numbers */
  certificates: (Omit<Issued, 'event'> & { issuedAt: string; by: string; state: CertificateState })[]
  revoked: (Omit<Revoked, 'event'> & { revokedAt: string; by: string })[]
  revocationList: { file: string; version: number }
  /** numbers of lines of the issue log that cannot be read */
  damagedLogLines: number[]
}

export interface ListedKey {
  publicKey: string
  fingerprint: string
  /** where the private key is; `elsewhere` is ssh-agent or nowhere */
  privateKey: 'file' | 'elsewhere'
}

export type CertificateState = 'valid' | 'not yet valid' | 'expired' | 'revoked' | 'untrusted'

export async function takeInventory(authority: Authority, now = new Date()): Promise<Inventory> {
  const { folder, pairs, log } = authority
  const { records, damaged } = await log.read()
  const list = await readRevocationList(folder.krl)
  const trusted = new Set(pairs.flatMap(({ user, host }) => [user.fingerprint, host.fingerprint]))
  const voids = new Set(records.filter((record) => record.event === 'void').map(({ serial }) => serial))
  const stateOf = ({ ca, serial, fingerprint, validFrom, validTo }: Issued): CertificateState => {
    if (list.keys.has(fingerprint) || list.keys.has(ca) || list.hasSerial(ca, serial)) return 'revoked'
    if (!trusted.has(ca)) return 'untrusted'
    if (new Date(validTo) <= now) return 'expired'
    return new Date(validFrom) > now ? 'not yet valid' : 'valid'
  }
  const listed = (key: (typeof pairs)[number]['user']): ListedKey => ({
    publicKey: key.publicKey,
    fingerprint: key.fingerprint,
    privateKey: key.privateFile === undefined ? 'elsewhere' : 'file',
  })
  return {
    folder: folder.root,
    authorities: pairs.map(({ generation, user, host }, index) => ({
      generation,
      signs: index === 0,
      userCa: listed(user),
      hostCa: listed(host),
    })),
    certificates: records
      .filter(
        (record): record is LogRecord & Issued => record.event === 'issued' && !voids.has(record.serial),
      )
      .map(({ event, time, ...issued }) => ({
        ...issued,
        issuedAt: time,
        state: stateOf({ event, ...issued }),
      })),
    revoked: records
      .filter((record): record is LogRecord & Revoked => record.event === 'revoked')
      .map(({ event: _, time, ...revoked }) => ({ ...revoked, revokedAt: time })),
    revocationList: { file: folder.krl, version: list.version },
    damagedLogLines: damaged,
  }
}
