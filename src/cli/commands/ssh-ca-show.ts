import { openAuthority } from '../../ssh/ca/authority.ts'
import { type ListedKey, takeInventory } from '../../ssh/ca/inventory.ts'
import type { Invocation } from '../invocation.ts'
import { print, printJson, tell } from '../output.ts'
import { formatTable } from '../table.ts'
import type { OfFolder } from './ssh-ca.ts'

/** The CA's keys, its certificates and what was revoked. */
export async function show(_: Invocation, options: OfFolder & { json: boolean }): Promise<void> {
  const inventory = await takeInventory(await openAuthority(options.folder))
  if (options.json) {
    printJson(inventory)
    return
  }
  const { authorities, certificates, revoked, revocationList, damagedLogLines } = inventory
  const keyRow = (generation: number, kind: string, signs: boolean, key: ListedKey) => ({
    ca: `${kind} ${generation}`,
    fingerprint: key.fingerprint,
    key: key.privateKey === 'file' ? 'in its folder' : 'in ssh-agent',
    use: signs ? 'signs' : 'still trusted',
  })
  const keys = authorities.flatMap(({ generation, signs, userCa, hostCa }) => [
    keyRow(generation, 'user', signs, userCa),
    keyRow(generation, 'host', signs, hostCa),
  ])
  print(formatTable(['ca', 'fingerprint', 'key', 'use'], keys))
  if (certificates.length > 0) {
    const rows = certificates.map(({ serial, kind, identity, principals, validFrom, validTo, state }) => ({
      ...{ serial, kind, identity, state },
      for: principals.join(','),
      from: minutes(validFrom),
      until: minutes(validTo),
    }))
    const columns = ['serial', 'kind', 'state', 'from', 'until', 'for', 'identity'] as const
    print(`\n${formatTable(columns, rows)}`)
  }
  if (revoked.length > 0) {
    const rows = revoked.map(({ revokedAt, serial, fingerprint, by, reason = '' }) => ({
      revoked: serial === undefined ? `key ${fingerprint}` : `certificate ${serial}`,
      at: minutes(revokedAt),
      ...{ by, reason },
    }))
    print(`\n${formatTable(['revoked', 'at', 'by', 'reason'], rows)}`)
  }
  print(`\nrevocation list: ${revocationList.file}, version ${revocationList.version}\n`)
  if (damagedLogLines.length > 0) {
    tell(
      `warning: lines of the issue log that cannot be read, as a crash leaves them: ${damagedLogLines.join(', ')}\n`,
    )
  }
}

/** `2026-01-01 12:00Z` */
function minutes(date: string): string {
  return `${date.slice(0, 16).replace('T', ' ')}Z`
}
