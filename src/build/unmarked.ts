import type { Pve } from '../pve/client.ts'
import { configIfThere, isBeingMade } from '../pve/destroy.ts'
import type { GuestRef, GuestRow } from '../pve/guest-ref.ts'
import { fromTags, type Marks, parseNote } from '../pve/marks.ts'
import type { Place } from '../pve/place.ts'

/**
 * Guests of ours that their tags do not show. While Proxmox makes one it has neither tags nor note; a clone bears
 * its parent's tags until it is configured, but a note of its own. Who is killed then leaves such a guest.
 */

export interface OurGuest extends GuestRef {
  marks: Marks
}

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
