import type { GuestConfig } from './answers.ts'
import { CLAIM_SECONDS, type Slot } from './claim-note.ts'
import type { Pve } from './client.ts'
import { parseNote } from './marks.ts'
import { hasEnded, isThisProcess } from './owner.ts'
import type { ServerClock } from './server-clock.ts'

/** Whether somebody can still be working under a claim. */

/** A claim as it was read a moment ago. */
export interface Holder extends Slot {
  config: Pick<GuestConfig, 'digest' | 'description'>
}

/** Runs of this process that have a claim, or are taking one. */
export const runsHere = new Set<string>()

/**
 * Nobody can still be working under this claim. On this machine the process itself says so, whatever the claim's time;
 * elsewhere its time does, by the server's clock. Where the server tells no time, the claim must have been the same for as
 * long as a claim is good, by the clock of whoever looks at it: a holder would have renewed it several times.
 */
export async function isStale(pve: Pve, holder: Holder): Promise<boolean> {
  const note = parseNote(holder.vmid, holder.config.description)
  if (note === undefined) return true
  const unchanged = unchangedFor(pve.clock, holder)
  const { owner, run, expires } = note
  if (owner !== undefined && (await isThisProcess(owner))) return !runsHere.has(run)
  const ended = owner && (await hasEnded(owner))
  if (ended !== undefined) return ended
  if (expires !== undefined && pve.clock.seconds() !== undefined) return pve.clock.isOver(expires)
  return unchanged >= CLAIM_SECONDS * 1000
}

/** Whether the time of a claim decides, for those who cannot see its process. */
export function tellsTime(pve: Pve, expires: number | undefined): expires is number {
  return expires !== undefined && pve.clock.seconds() !== undefined
}

/** Claims as this process has first seen them, by connection. */
const sightings = new WeakMap<ServerClock, Map<string, { digest: string; since: number }>>()

/** Milliseconds of the monotonic clock in which this process has seen the claim as it is now. */
function unchangedFor(clock: ServerClock, { node, vmid, config: { digest } }: Holder): number {
  const seen = sightings.get(clock) ?? new Map<string, { digest: string; since: number }>()
  sightings.set(clock, seen)
  const before = seen.get(`${node}/${vmid}`)
  const now = performance.now()
  if (before?.digest === digest) return now - before.since
  seen.set(`${node}/${vmid}`, { digest, since: now })
  return 0
}
