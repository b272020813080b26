import { randomBytes } from 'node:crypto'
import type { Emit } from '../core/events.ts'
import { withDeadline } from '../core/scope.ts'
import { choose } from '../plan/identity.ts'
import { claimImage } from '../pve/claim.ts'
import type { Claim } from '../pve/claim-held.ts'
import type { Pve } from '../pve/client.ts'
import { thisOwner } from '../pve/owner.ts'
import type { Place } from '../pve/place.ts'

/** Where to begin looking for the claim on a name in the range of claims. */
export function slotOf({ vmids }: Place, namespace: string, name: string): number {
  const { first, last } = vmids.claims
  return choose(last - first + 1, 'claim', namespace, name)
}

/** Who claims something without building it. */
export interface Claimant {
  pve: Pve
  place: Place
  namespace: string
  emit: Emit
  signal: AbortSignal
}

export interface Claimed {
  claim: Claim
  /** names what is done under it, in notes */
  run: string
  /** aborts when another run has it */
  lost: AbortSignal
}

/**
 * Claims a name as a run of its own.
 * @param tool version of imagebuild
 * @throws ImageHeld, ClaimTaken
 */
export async function claimAlone(claimant: Claimant, name: string, tool: string): Promise<Claimed> {
  const { pve, place, namespace, emit, signal } = claimant
  const run = randomBytes(4).toString('hex')
  const lost = new AbortController()
  const claim = await claimImage(pve, {
    ...{ place, namespace, image: name, run, tool, emit, signal },
    owner: await thisOwner(),
    slot: slotOf(place, namespace, name),
    onLost: (why) => lost.abort(why),
  })
  return { claim, run, lost: lost.signal }
}

/** Seconds in which Proxmox must say whose a claim is. */
const ASK_SECONDS = 60

/**
 * Whether the claim is this run's at this moment. What goes wrong in a build may come from another run that has taken it and
 * removes what it finds. Under a deadline of its own, since the build's may be over.
 */
export async function isStillOurs(claim: Claim): Promise<boolean> {
  using signal = withDeadline(undefined, ASK_SECONDS, 'looking at the claim')
  try {
    await claim.confirm(signal)
    return true
  } catch {
    return false
  }
}
