import type { Identity } from '../plan/network.ts'
import type { CreateParameters, Guest, GuestRequest } from '../pve/guest.ts'
import { createGuest } from '../pve/guests.ts'
import { renderNote } from '../pve/marks.ts'
import type { Access } from './access.ts'
import type { ConsoleRecorder } from './console.ts'
import { type Build, noteOf, tagsOf } from './context.ts'

/** A guest that boots, with all that belongs to it. Its end removes everything, unless it is kept. */
export interface BuildGuest extends AsyncDisposable {
  guest: Guest
  access: Access
  identity: Identity
  console: ConsoleRecorder
  /** the guest survives; its seed does not */
  keep(): void
  /** guest and seed survive: someone wants to look into it */
  keepAll(): void
}

/** A guest with the marks of this build, at a free VMID of the target's. */
export async function createBuildGuest(
  build: Build,
  identity: Identity,
  how: {
    parameters: CreateParameters
    onLine: (line: string) => void
    cloneOf?: GuestRequest['cloneOf']
  },
): Promise<Guest> {
  const { image, place, pve, run, expires, emit, signal, owner } = build
  return await createGuest(pve, {
    kind: image.kind,
    place,
    image: image.name,
    run,
    range: place.vmids.templates,
    emit,
    onLine: how.onLine,
    signal,
    seconds: 3600,
    parameters: ({ vmid, token }) => ({
      ...how.parameters,
      tags: tagsOf(build, vmid, { state: 'building', expires, address: identity.address }),
      description: renderNote(noteOf(build, vmid, { owner, expires, guest: token })),
    }),
    ...(how.cloneOf && { cloneOf: how.cloneOf }),
  })
}
