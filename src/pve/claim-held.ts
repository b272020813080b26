import type { Emit } from '../core/events.ts'
import { Ownership } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { configIfThere, destroyGuest } from './destroy.ts'
import { type Owner, parseNote, renderNote, toTags } from './marks.ts'
import type { Place } from './place.ts'

/** A claim while it is held: what it looks like, how it is renewed, and how it goes. */

/** A claim that was not renewed for this long is free to take. */
export const CLAIM_SECONDS = 300
const RENEW_SECONDS = 60

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
  /** called when the claim was lost: the build must stop */
  onLost: (why: Error) => void
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

export interface Claim extends AsyncDisposable {
  readonly vmid: number
  /** what `setTags` gave it */
  readonly tags: readonly string[]
  /**
   * Gives the claim these tags beside its own, in place of those that an earlier call gave it. They stay until
   * the claim is released.
   * @throws where the claim belongs to somebody else by now
   */
  setTags(tags: readonly string[]): Promise<void>
}

export function marksOf(
  request: Claiming,
  vmid: number,
  extra: readonly string[] = [],
): { tags: string; description: string } {
  const { namespace, image, run, owner, tool, since } = request
  const expires = Math.ceil(Date.now() / 1000) + CLAIM_SECONDS
  return {
    tags: toTags({ vmid, namespace, image, state: 'claim', expires }, extra),
    description: renderNote({
      schema: 1,
      vmid,
      namespace,
      image,
      kind: 'vm',
      tool,
      run,
      owner,
      since,
      expires,
    }),
  }
}

/** Renews the claim, if nobody has changed it since it had this digest. */
export async function write(
  pve: Pve,
  request: Claiming,
  { node, vmid }: Slot,
  digest: string,
  extra: readonly string[] = [],
): Promise<void> {
  await pve.api.nodes
    .$(node)
    .qemu.$(vmid)
    .config.$put({ ...marksOf(request, vmid, extra), digest })
}

export function ownership(pve: Pve, { image, emit, run }: ClaimRequest, { node, vmid }: Slot): Ownership {
  return new Ownership({
    resource: `the claim on ${image} (VM ${vmid} on ${node})`,
    image,
    next: 'run `imagebuild prune`',
    emit,
    remove: (signal) => destroyGuest(pve.withSignal(signal), { kind: KIND, node, vmid, run, signal }),
  })
}

class ClaimLost extends Error {}

/** Renews the claim until it is disposed of. */
export function hold(pve: Pve, request: Claiming, slot: Slot): Claim {
  const { image, run } = request
  const { node, vmid } = slot
  let extra: readonly string[] = []
  let turn: Promise<unknown> = Promise.resolve()
  /** One change after the other: each must see the digest that the one before it left. */
  const inTurn = (change: () => Promise<void>): Promise<void> => {
    const done = turn.then(change)
    turn = done.catch(() => undefined)
    return done
  }
  const renew = async (tags: readonly string[]) => {
    const config = await configIfThere(pve, { kind: KIND, node, vmid })
    if (config === undefined) throw new ClaimLost(`the claim on ${image} (VM ${vmid}) was removed`)
    const note = parseNote(vmid, config.description)
    if (note?.run !== run)
      throw new ClaimLost(`the claim on ${image} (VM ${vmid}) now belongs to run ${note?.run}`)
    await write(pve, request, slot, config.digest, tags)
  }
  let renewed = Date.now()
  let over = false
  const lose = (why: Error) => {
    if (!over) request.onLost(why)
    over = true
  }
  // By the clock: a renewal may not only fail, but hang.
  const unrenewedFor = (seconds: number) => Date.now() - renewed >= seconds * 1000
  const timer = setInterval(() => {
    const started = Date.now()
    if (unrenewedFor(CLAIM_SECONDS))
      lose(new Error(`the claim on ${image} (VM ${vmid}) could not be renewed in time`))
    inTurn(() => renew(extra)).then(
      () => {
        renewed = started
      },
      (error: Error) => {
        // One refused renewal may be a hiccup; the claim is good for several.
        if (error instanceof ClaimLost || unrenewedFor(CLAIM_SECONDS - RENEW_SECONDS)) lose(error)
      },
    )
  }, RENEW_SECONDS * 1000)
  timer.unref()
  const owned = ownership(pve, request, slot)
  return {
    vmid,
    get tags() {
      return extra
    },
    setTags: (tags) =>
      inTurn(async () => {
        await renew(tags)
        extra = [...tags]
      }),
    async [Symbol.asyncDispose]() {
      over = true
      clearInterval(timer)
      await owned[Symbol.asyncDispose]()
    },
  }
}
