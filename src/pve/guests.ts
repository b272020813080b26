import { ImagebuildError } from '../core/errors.ts'
import type { Pve } from './client.ts'
import { PveError } from './errors.ts'
import { Guest, type GuestRequest } from './guest.ts'
import { type ClusterRow, clusterGuests } from './guest-ref.ts'
import { compareVersions, fromTags } from './marks.ts'
import type { VmidRange } from './place.ts'

/**
 * Creates a guest at a VMID of the range that nobody has; that Proxmox makes each only once is what makes the choice safe.
 * It begins behind the image's newest template, and goes round: what has just been removed may still be named somewhere.
 */
export async function createGuest(pve: Pve, request: GuestRequest): Promise<Guest> {
  const { place, range, image } = request
  const rows = await clusterGuests(pve)
  const taken = new Set([...rows.map(({ vmid }) => vmid), ...(place.vmids.fixed ?? [])])
  const size = range.last - range.first + 1
  const begin = afterNewest(rows, image, range)
  for (let step = 0; step < size; step += 1) {
    const vmid = range.first + ((begin - range.first + step) % size)
    if (taken.has(vmid)) continue
    const guest = new Guest(pve, request, vmid)
    try {
      await guest.create()
      return guest
    } catch (error) {
      await guest[Symbol.asyncDispose]()
      if (!isTaken(error)) throw error
    }
  }
  throw new ImagebuildError({
    code: 'busy',
    what: `all VMIDs from ${range.first} to ${range.last} are taken`,
    next: `remove old templates, or widen vmids.templates of target ${place.target} in imagebuild.yaml`,
  })
}

/** The VMID behind that of the newest version in the range. */
function afterNewest(rows: readonly ClusterRow[], image: string, { first, last }: VmidRange): number {
  const versions = rows.flatMap(({ vmid, tags }) => {
    const marks = vmid >= first && vmid <= last ? fromTags(vmid, tags) : undefined
    return marks?.image === image && marks.version !== undefined ? [marks] : []
  })
  const newest = versions.sort((a, b) => compareVersions(a.version, b.version)).at(-1)
  return newest === undefined ? first : newest.vmid + 1
}

/**
 * Proxmox says that this VMID exists, or that somebody is creating it right now. It says so to the call itself: a
 * task that fails with such words means a storage or a volume, and would fail with the next VMID too.
 */
export function isTaken(error: unknown): boolean {
  return (
    error instanceof PveError &&
    /already exists|already used|can't lock file .*(create|lock)|got timeout/i.test(error.message)
  )
}
