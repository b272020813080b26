import type { Log } from '../../world.ts'
import type { Lab } from '../router.ts'
import { removeVolumes } from './allocate.ts'
import type { Guest, GuestConfig, GuestType } from './store.ts'

/** The beginnings of guests, and the ends of those that came to nothing. */

/**
 * Takes the VMID and its lock, which the task that makes the guest gives back with `release`.
 * @throws ApiError 500 when it is taken, or locked for `seconds`
 */
export async function reserveGuest(
  lab: Lab,
  wanted: { vmid: number; type: GuestType; config: GuestConfig; pool: string | undefined },
  seconds: number,
): Promise<{ guest: Guest; release: () => void }> {
  const { vmid, type, config, pool } = wanted
  const release = await lab.guests.acquire(vmid, seconds)
  try {
    lab.guests.refuseTaken(vmid)
  } catch (error) {
    release()
    throw error
  }
  const guest = lab.guests.add(vmid, config, type)
  await lab.guests.save(guest)
  // The member must be there at once: privileges on the pool are what the creator may have only.
  if (pool !== undefined) await joinPool(lab, pool, vmid)
  return { guest, release }
}

/** Takes back what a failed create or clone has made. */
export async function abandonGuest(
  lab: Lab,
  vmid: number,
  created: readonly string[],
  log: Log,
): Promise<void> {
  await removeVolumes(lab, created, log)
  await lab.guests.remove(vmid)
  await leavePools(lab, vmid)
}

async function joinPool(lab: Lab, pool: string, vmid: number): Promise<void> {
  const members = lab.access.state.pools[pool]?.vms
  if (!members || members.includes(vmid)) return
  members.push(vmid)
  await lab.access.save()
}

export async function leavePools(lab: Lab, vmid: number): Promise<void> {
  const pools = Object.values(lab.access.state.pools).filter((pool) => pool.vms.includes(vmid))
  if (pools.length === 0) return
  for (const pool of pools) pool.vms = pool.vms.filter((member) => member !== vmid)
  await lab.access.save()
}
