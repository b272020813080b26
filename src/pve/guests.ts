import { ImagebuildError } from '../core/errors.ts'
import type { Pve } from './client.ts'
import { PveError } from './errors.ts'
import { Guest, type GuestRequest } from './guest.ts'

/** Creates a guest at the first VMID of the range that nobody has, which is what makes the choice safe. */
export async function createGuest(pve: Pve, request: GuestRequest): Promise<Guest> {
  const { place, range } = request
  const taken = new Set([...(await visibleVmids(pve)), ...(place.vmids.fixed ?? [])])
  for (let vmid = range.first; vmid <= range.last; vmid += 1) {
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

async function visibleVmids(pve: Pve): Promise<number[]> {
  const rows = (await pve.api.cluster.resources.$get({ type: 'vm' })) as { vmid: number }[]
  return rows.map((row) => row.vmid)
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
