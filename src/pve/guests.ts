import { ImagebuildError } from '../core/errors.ts'
import type { Pve } from './client.ts'
import { Guest, type GuestRequest } from './guest.ts'
import { type ClusterRow, clusterGuests } from './guest-ref.ts'
import { compareVersions, fromTags } from './marks.ts'
import type { VmidRange } from './place.ts'
import { isTaken } from './vmids.ts'

/**
 * Creates a guest at a VMID of the range that no guest has. Another run, or a user, may take the same one at this moment:
 * Proxmox gives it to one of them, and the others try the next.
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
    const reservation = pve.vmids.reserve(vmid)
    if (reservation === undefined) continue
    const guest = new Guest(pve, request, vmid, reservation)
    try {
      await guest.create()
      return guest
    } catch (error) {
      await guest[Symbol.asyncDispose]()
      if (!isTaken(error, vmid)) throw error
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
