import type { Volume } from '../world.ts'
import { failure } from './errors.ts'
import type { Call } from './router.ts'

/** Who may read which volume of a storage. */

/** `vzdump-lxc-310-2026_11_20-16_01_52.tar.zst` */
export const BACKUP = new RegExp(
  '^[^:]+:backup/vzdump-(lxc|qemu)-(\\d+)-(\\d{4})_(\\d\\d)_(\\d\\d)-(\\d\\d)_(\\d\\d)_(\\d\\d)' +
    '\\.(?:tar|vma)(?:\\.(?:gz|lzo|zst))?$',
)

interface Demand {
  path: string
  privileges: readonly string[]
  /** one of them is enough */
  any?: boolean
}

/** What reading a volume demands of those who have no Datastore.Allocate; undefined: it is for these alone. */
function toRead({ storage }: Call, { volid, content, vmid }: Volume): readonly Demand[] | undefined {
  const path = `/storage/${storage.id}`
  if (content === 'iso' || content === 'vztmpl' || content === 'import')
    return [{ path, privileges: ['Datastore.AllocateSpace', 'Datastore.Audit'], any: true }]
  const isBackup = content === 'backup'
  const owner = isBackup ? BACKUP.exec(volid)?.[2] : vmid
  if (owner === undefined) return undefined
  return [
    { path, privileges: [isBackup ? 'Datastore.AllocateSpace' : 'Datastore.Audit'] },
    { path: `/vms/${owner}`, privileges: [isBackup ? 'VM.Backup' : 'VM.Config.Disk'] },
  ]
}

export function mayRead(call: Call, volume: Volume): boolean {
  if (call.allowed(`/storage/${call.storage.id}`, ['Datastore.Allocate'])) return true
  const demands = toRead(call, volume)
  return demands?.every(({ path, privileges, any }) => call.allowed(path, privileges, any)) ?? false
}

/** @throws ApiError that names the first privilege that is missing */
export function requireRead(call: Call, volume: Volume): void {
  if (mayRead(call, volume)) return
  for (const { path, privileges, any } of toRead(call, volume) ?? []) call.require(path, privileges, any)
  throw failure(`missing privileges to access ${volume.volid}`)
}

/** What lies beside backups and is none is not shown at all. */
export function isShown({ volid, content }: Volume): boolean {
  return content !== 'backup' || BACKUP.test(volid)
}
