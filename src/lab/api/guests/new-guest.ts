import type { Log } from '../../world.ts'
import type { Lab } from '../router.ts'
import { type TaskContext, WorkerDied } from '../tasks.ts'
import { removeVolumes } from './allocate.ts'
import type { Guest, GuestConfig, GuestType } from './store.ts'

/** The beginnings of guests, and the ends of those that came to nothing. */

/** seconds that a create waits for the lock of its VMID */
export const CREATE_LOCK_SECONDS = 5

export interface Wanted {
  vmid: number
  type: GuestType
  config: GuestConfig
  pool: string | undefined
}

/** A guest that is being made, and what holds others off meanwhile. */
export interface Reserved {
  guest: Guest
  /** when the work is done; where it has failed, `release` alone */
  finish(task: TaskContext): Promise<void>
  release(): void
}

/**
 * Takes the VMID and its lock, which the task that makes the guest gives back.
 * @throws ApiError 500 when it is taken, or locked for `seconds`
 */
export async function reserveGuest(lab: Lab, wanted: Wanted, seconds: number): Promise<Reserved> {
  const release = await lab.guests.acquire(wanted.vmid, seconds)
  try {
    lab.guests.refuseTaken(wanted.vmid)
    return await beginGuest(lab, wanted, release)
  } catch (error) {
    release()
    throw error
  }
}

/** For whoever holds the lock of a VMID that is free. */
export async function beginGuest(lab: Lab, wanted: Wanted, unlock: () => void): Promise<Reserved> {
  const { vmid, type, config, pool } = wanted
  const guest = lab.guests.add(vmid, config, type)
  const settled = lab.guests.beginChange(guest)
  await lab.guests.save(guest)
  return {
    guest,
    // Not before: whoever has privileges on the pool alone has none on a guest that is being made.
    finish: async ({ signal }) => {
      if (pool !== undefined) await joinPool(lab, pool, vmid)
      await lab.faults.pause(lab.faults.settings.lockSeconds, signal)
    },
    release: () => {
      settled()
      unlock()
    },
  }
}

/** Killed, say, by a node without memory: what the call has written stays, and nobody comes to clean up. */
export function checkWorker(lab: Lab, { guest, release }: Reserved): void {
  if (!lab.faults.settings.deadWorkers.includes(guest.vmid)) return
  release()
  throw new WorkerDied()
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
