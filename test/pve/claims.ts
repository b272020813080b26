import type { Event } from '../../src/core/events.ts'
import type { ClaimRequest } from '../../src/pve/claim-note.ts'
import { type Note, parseNote, renderNote, toTags } from '../../src/pve/marks.ts'
import { type MemoryProxmox, PLACE, SOMEBODY, soon } from './memory-proxmox.ts'

/** Claims on one image, for tests of them. */

/** The VMID where looking for a free one begins. */
export const SLOT = 9903

export function request(
  change: Partial<ClaimRequest> = {},
): ClaimRequest & { events: Event[]; lost: Error[] } {
  const events: Event[] = []
  const lost: Error[] = []
  return {
    place: PLACE,
    namespace: 'homelab',
    image: 'web',
    run: 'mine',
    owner: SOMEBODY,
    tool: '0.1.0',
    slot: SLOT - PLACE.vmids.claims.first,
    emit: (event) => events.push(event),
    signal: new AbortController().signal,
    onLost: (why) => lost.push(why),
    ...change,
    events,
    lost,
  }
}

/** A claim that is there already. */
export function held(pve: MemoryProxmox, change: Partial<Note> = {}, vmid = SLOT, node = 'pve') {
  const note: Note = {
    schema: 1,
    vmid,
    namespace: 'homelab',
    image: 'web',
    kind: 'vm',
    tool: '0',
    run: 'theirs',
    owner: SOMEBODY,
    since: '2026-01-01T00:00:00.000Z',
    expires: soon(),
    ...change,
  }
  const { namespace, image, expires = 0 } = note
  const tags = toTags({ vmid, namespace, image, state: 'claim', expires })
  return pve.put(vmid, { tags, description: renderNote(note) }, { node })
}

export const runAt = (pve: MemoryProxmox, vmid = SLOT) =>
  parseNote(vmid, String(pve.guests.get(vmid)?.config.description))?.run
