import type { ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { Ownership } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { destroyGuest } from './destroy.ts'
import { type Owner, renderNote, toTags } from './marks.ts'
import type { Place } from './place.ts'

/** What a claim looks like in Proxmox. */

/** A claim that was not renewed for this long is free to take. */
export const CLAIM_SECONDS = 300

export interface ClaimRequest {
  place: Place
  namespace: string
  image: string
  run: string
  owner: Owner
  tool: string
  /** where to begin looking in the range of claims: a hash of (namespace, image) */
  slot: number
  emit: Emit
  /** ends the waiting for the claim; the claim itself is renewed until it is released */
  signal: AbortSignal
  /** called once, when another run has the claim: this one must stop */
  onLost: (why: ImagebuildError) => void
}

/** A request that is carried out. */
export interface Claiming extends ClaimRequest {
  /** ISO 8601, UTC: what others are told who want the image too */
  since: string
}

/** Where a claim lies. */
export interface Slot {
  node: string
  vmid: number
}

/** A claim is a VM, whatever kind of guest is built under it. */
export const KIND = 'vm'

export interface Renewal {
  /** tags of the holder's, beside those of every claim */
  extra: readonly string[]
  /** times that it was renewed before: no two renewals look alike */
  renewals: number
}

export const FIRST: Renewal = { extra: [], renewals: 0 }

/** By the clock of the server; where that tells no time, others judge by whether the claim changes. */
export function marksOf(
  pve: Pve,
  request: Claiming,
  vmid: number,
  { extra, renewals }: Renewal,
): { tags: string; description: string } {
  const { namespace, image, run, owner, tool, since } = request
  const expires = pve.clock.seconds() === undefined ? {} : { expires: pve.clock.after(CLAIM_SECONDS) }
  return {
    tags: toTags({ vmid, namespace, image, state: 'claim', ...expires }, extra),
    description: renderNote({
      schema: 1,
      vmid,
      namespace,
      image,
      kind: 'vm',
      tool,
      run,
      // A run has one claim at a VMID.
      guest: run,
      owner,
      since,
      ...expires,
      renewals,
    }),
  }
}

/** Renews the claim, or takes it over, if nobody has changed it since it had this digest. */
export async function write(
  pve: Pve,
  request: Claiming,
  { node, vmid }: Slot,
  digest: string,
  renewal: Renewal,
): Promise<void> {
  await pve.api.nodes
    .$(node)
    .qemu.$(vmid)
    .config.$put({ ...marksOf(pve, request, vmid, renewal), digest })
}

/** Removes the claim at the end of its scope, as far as it is still this run's. */
export function ownership(pve: Pve, { image, emit, run }: ClaimRequest, { node, vmid }: Slot): Ownership {
  return new Ownership({
    resource: `the claim on ${image} (VM ${vmid} on ${node})`,
    image,
    next: 'run `imagebuild prune`',
    emit,
    remove: (signal) => destroyGuest(pve.withSignal(signal), { kind: KIND, node, vmid, run, signal }),
  })
}
