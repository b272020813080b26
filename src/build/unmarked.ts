import type { Emit } from '../core/events.ts'
import { DeadlineError, poll, withDeadline } from '../core/scope.ts'
import type { Pve } from '../pve/client.ts'
import { configIfThere, isBeingMade } from '../pve/destroy.ts'
import { type GuestRef, type GuestRow, guestLabel, nodeGuests } from '../pve/guest-ref.ts'
import { fromTags, type Marks, parseNote } from '../pve/marks.ts'
import type { Place } from '../pve/place.ts'

/**
 * Guests of ours that their tags do not show. While Proxmox makes one it has neither tags nor note; a clone bears
 * its parent's tags until it is configured, but a note of its own. Who is killed then leaves such a guest.
 */

export interface OurGuest extends GuestRef {
  marks: Marks
}

/** Seconds that Proxmox is given to finish what a killed run has ordered. */
const MAKING_SECONDS = 120

/** Clones that are complete, temporary by their note, and not marked yet. A user's clone bears its template's note. */
export async function unmarkedClones(
  pve: Pve,
  place: Place,
  namespace: string,
  rows: readonly GuestRow[],
): Promise<OurGuest[]> {
  const { node, vmids } = place
  const found: OurGuest[] = []
  for (const { kind, vmid, tags } of rows) {
    const inherits = fromTags(vmid, tags) === undefined && tags?.split(/[;, ]/).includes(`ib-ns-${namespace}`)
    if (!inherits || vmid < vmids.templates.first || vmid > vmids.templates.last) continue
    const config = await configIfThere(pve, { kind, node, vmid })
    if (config === undefined || isBeingMade(config)) continue
    const note = parseNote(vmid, config.description)
    if (note?.namespace !== namespace || note.expires === undefined || note.version !== undefined) continue
    // A swap's: the next one finishes that.
    if (note.swap !== undefined) continue
    const { image, expires } = note
    found.push({ kind, node, vmid, marks: { vmid, namespace, image, state: 'building', expires } })
  }
  return found
}

/** Waits until Proxmox has made whatever it is making in our ranges: only then can be told whose it is. */
export async function awaitMaking(pve: Pve, place: Place, emit: Emit, signal: AbortSignal): Promise<void> {
  const ranges = [place.vmids.templates, place.vmids.claims]
  using patience = withDeadline(signal, MAKING_SECONDS, 'waiting for guests in the making')
  let told = false
  try {
    await poll(
      async () => {
        const making = (await nodeGuests(pve, place.node)).filter(
          ({ vmid, lock }) =>
            (lock === 'create' || lock === 'clone') &&
            ranges.some(({ first, last }) => vmid >= first && vmid <= last),
        )
        if (making.length === 0) return true
        const names = making.map(guestLabel).join(', ')
        if (!told)
          emit({ type: 'info', message: `waiting for ${names}, which ${place.node} is still making` })
        told = true
        return undefined
      },
      { signal: patience, first: 200, max: 1000 },
    )
  } catch (error) {
    if (signal.aborted || !(error instanceof DeadlineError)) throw error
  }
}
