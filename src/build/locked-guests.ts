import type { Emit } from '../core/events.ts'
import { DeadlineError, poll, withDeadline } from '../core/scope.ts'
import type { Pve } from '../pve/client.ts'
import { type GuestRef, guestLabel, nodeGuests } from '../pve/guest-ref.ts'
import { describeLocked, LockedGuest, type Making, mayBeOurs } from '../pve/locked-guest.ts'
import type { Place } from '../pve/place.ts'

/**
 * Guests in the target's ranges that are locked for their creation. Whose they are shows when they are finished: those that
 * may be ours are waited for, of the others a person is told.
 */

/** Seconds that Proxmox is given to finish what a killed run has ordered. */
const MAKING_SECONDS = 120

interface Looking {
  pve: Pve
  place: Place
  emit: Emit
  signal: AbortSignal
}

/** Waits until Proxmox has made what these credentials have ordered in the target's ranges; tells of all else that is locked. */
export async function awaitMaking(looking: Looking): Promise<void> {
  const { place, emit, signal } = looking
  using patience = withDeadline(signal, MAKING_SECONDS, 'waiting for guests in the making')
  const watch = watcher(looking)
  const told = new Set<number>()
  let isSaid = false
  const look = async () => {
    const locked = await watch()
    const waiting = locked.filter(({ making }) => mayBeOurs(making))
    for (const one of locked) {
      if (waiting.includes(one) || told.has(one.guest.vmid)) continue
      told.add(one.guest.vmid)
      tell(looking, one)
    }
    if (waiting.length === 0) return true
    const ours = waiting.filter(({ making }) => making.by === 'task')
    const names = ours.map(({ guest }) => guestLabel(guest)).join(', ')
    if (!isSaid && ours.length > 0)
      emit({ type: 'info', message: `waiting for ${names}, which ${place.node} is still making` })
    isSaid ||= ours.length > 0
    return undefined
  }
  try {
    await poll(look, { signal: patience, first: 200, max: 1000 })
  } catch (error) {
    if (signal.aborted || !(error instanceof DeadlineError)) throw error
  }
}

/** Tells of guests in the target's ranges that were never finished. What is being created is let alone. */
export async function tellNeverFinished(looking: Looking): Promise<void> {
  const watch = watcher(looking)
  const look = async () => {
    const locked = await watch()
    return locked.some(({ making }) => making.by === 'unsettled') ? undefined : locked
  }
  const settled = await poll(look, { signal: looking.signal, first: 200, max: 1000 })
  for (const one of settled) if (one.making.by !== 'task') tell(looking, one)
}

interface Locked {
  guest: GuestRef
  making: Making
}

/** Gives what is locked at this moment; each guest is watched from its first look on. */
function watcher({ pve, place }: Looking): () => Promise<Locked[]> {
  const { node, vmids } = place
  const ranges = [vmids.templates, vmids.claims]
  const isOurs = (vmid: number) =>
    ranges.some(({ first, last }) => vmid >= first && vmid <= last) || vmids.fixed?.includes(vmid)
  const watched = new Map<string, LockedGuest>()
  return async () => {
    const rows = (await nodeGuests(pve, node)).filter(
      ({ vmid, lock }) => (lock === 'create' || lock === 'clone') && isOurs(vmid),
    )
    return await Promise.all(
      rows.map(async ({ kind, vmid }) => {
        const guest = { kind, node, vmid }
        const one = watched.get(guestLabel(guest)) ?? new LockedGuest(pve, guest)
        watched.set(guestLabel(guest), one)
        return { guest, making: await one.look() }
      }),
    )
  }
}

function tell({ pve, emit }: Looking, { guest, making }: Locked): void {
  const { state, why, next } = describeLocked(pve, guest, making)
  const resource = `${guestLabel(guest)} on ${guest.node}`
  if (making.by === 'task') emit({ type: 'info', message: `${resource} ${state} ${why}` })
  else if (making.by === 'nobody') emit({ type: 'leak', resource, why: `it ${state}: ${why}`, next })
  // Somebody else may be making it at this moment: it is not left over.
  else emit({ type: 'warning', message: `${resource} ${state}: ${why}; ${next}` })
}
