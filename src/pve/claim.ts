import { ImagebuildError } from '../core/errors.ts'
import { CLEANUP_SECONDS, sleep, withDeadline } from '../core/scope.ts'
import { type Claim, hold } from './claim-held.ts'
import { type Holder, isStale, runsHere } from './claim-judged.ts'
import {
  type Claiming,
  type ClaimRequest,
  FIRST,
  KIND,
  marksOf,
  ownership,
  type Slot,
  write,
} from './claim-note.ts'
import { ClaimTaken, ImageHeld } from './claim-refused.ts'
import type { Pve } from './client.ts'
import { configIfThere, isBeingMade } from './destroy.ts'
import { GuestOrder } from './guest-order.ts'
import { LockedGuest } from './locked-guest.ts'
import { isAnswerLost } from './lost-answer.ts'
import { fromTags, type Note, parseNote } from './marks.ts'
import { hasEnded } from './owner.ts'
import type { Place } from './place.ts'
import { isTaken } from './vmids.ts'

/**
 * One builder per image in the whole cluster. Creating a VMID is atomic in Proxmox, so a diskless VM at a VMID
 * that follows from (namespace, image) is the lock; its note says who holds it and until when. The holder
 * renews it; whoever finds it expired, or its owner dead, takes it over by compare-and-swap on the config.
 */

/** Times that a VMID is tried which is taken when we create, and free when we look. */
const TRIES = 5

/** Seconds that a claim takes to be created at most; what takes longer is another kind of guest. */
const CREATE_SECONDS = 30

/** @throws ImageHeld when another builder holds the image */
export async function claimImage(pve: Pve, asked: ClaimRequest): Promise<Claim> {
  runsHere.add(asked.run)
  try {
    // By the answers to its first look it is known what time it is for the server.
    const claims = await claimsOf(pve, asked)
    const request: Claiming = { ...asked, since: pve.clock.date().toISOString() }
    const slot = await takeSlot(pve, request, claims)
    // Also a run that is cleaning up after Ctrl-C claims anew: until the claim is released, not under the run's signal.
    return hold(pve, request, slot, async (own, signal) =>
      takeSlot(own, { ...request, signal }, await claimsOf(own, request)),
    )
  } catch (error) {
    runsHere.delete(asked.run)
    throw error
  }
}

/** @param claims where claims on this image lie: its own slot may have been taken by another image's, and these count */
async function takeSlot(pve: Pve, request: Claiming, claims: readonly number[]): Promise<Slot> {
  const { first, last } = request.place.vmids.claims
  const count = last - first + 1
  const range = Array.from({ length: count }, (_, offset) => first + ((request.slot + offset) % count))
  for (const vmid of [...claims, ...range]) {
    const slot = await tryClaim(pve, request, vmid)
    if (slot === undefined) continue
    try {
      await refuseSecond(pve, request, slot)
      return slot
    } catch (error) {
      await ownership(pve, request, slot)[Symbol.asyncDispose]()
      throw error
    }
  }
  throw new ImagebuildError({
    code: 'busy',
    what: `all VMIDs for claims, ${first} to ${last}, are taken`,
    next: 'run `imagebuild prune`, or give the target a larger vmids.claims',
  })
}

type OfImage = Pick<ClaimRequest, 'place' | 'image' | 'namespace'>

/** Whether there is a claim on this image whose holder is gone. */
export async function isAbandoned(pve: Pve, of: OfImage): Promise<boolean> {
  for (const vmid of await claimsOf(pve, of)) {
    const holder = await findHolder(pve, of.place, vmid)
    if (holder !== undefined && (await isStale(pve, holder))) return true
  }
  return false
}

/** Runs that work under a claim on this image, whatever node it lies on. */
export async function runsOf(pve: Pve, of: OfImage): Promise<string[]> {
  const runs: string[] = []
  for (const vmid of await claimsOf(pve, of)) {
    const holder = await findHolder(pve, of.place, vmid)
    const note = holder && parseNote(vmid, holder.config.description)
    if (holder !== undefined && note !== undefined && !(await isStale(pve, holder))) runs.push(note.run)
  }
  return runs
}

/** VMIDs of all claims on this image; those of this node as they are at this moment. */
async function claimsOf(pve: Pve, { place, image, namespace }: OfImage): Promise<number[]> {
  const [near, far] = await Promise.all([
    pve.api.nodes.$(place.node).qemu.$get(),
    pve.api.cluster.resources.$get({ type: 'vm' }),
  ])
  const rows = [...near, ...far.filter((row) => row.node !== place.node)]
  return rows.flatMap(({ vmid, tags }) => {
    const marks = fromTags(vmid, tags)
    return marks?.state === 'claim' && marks.namespace === namespace && marks.image === image ? [vmid] : []
  })
}

/** A slot may have become free between another builder's look and ours: of two claims on one image, none is good. */
async function refuseSecond(pve: Pve, request: Claiming, slot: Slot): Promise<void> {
  for (const vmid of await claimsOf(pve, request)) {
    const holder = vmid === slot.vmid ? undefined : await findHolder(pve, request.place, vmid)
    if (holder !== undefined) await refuseHeld(pve, request, holder)
  }
}

/** @throws ImageHeld where somebody may still be working under this claim */
async function refuseHeld(pve: Pve, { image }: Claiming, holder: Holder): Promise<void> {
  if (await isStale(pve, holder)) return
  const note = parseNote(holder.vmid, holder.config.description) as Note
  const livesHere = note.owner !== undefined && (await hasEnded(note.owner)) === false
  throw new ImageHeld(image, note, holder, { livesHere, clock: pve.clock })
}

/** Undefined where the VMID belongs to something else. */
async function tryClaim(pve: Pve, request: Claiming, vmid: number): Promise<Slot | undefined> {
  const { place, image, namespace } = request
  for (let tries = 0; tries < TRIES; tries += 1) {
    const slot = { node: place.node, vmid }
    if (await create(pve, request, slot)) return slot
    const holder = await findHolder(pve, place, vmid)
    if (holder === undefined) continue // released this moment: ours to take
    const marks = fromTags(vmid, holder.config.tags)
    if (marks?.state !== 'claim' || marks.namespace !== namespace || marks.image !== image) return undefined
    await refuseHeld(pve, request, holder)
    await takeOver(pve, request, holder)
    return { node: holder.node, vmid }
  }
  return undefined
}

/** False where another guest has the VMID already. */
async function create(pve: Pve, request: Claiming, { node, vmid }: Slot): Promise<boolean> {
  const { place, image, run, signal } = request
  const order = new GuestOrder(pve, {
    ...{ kind: KIND, node, vmid, token: run, seconds: CLEANUP_SECONDS, signal },
  })
  try {
    await order.create(() =>
      pve.api.nodes.$(node).qemu.$post({
        vmid,
        name: `ib-claim-${image}`,
        ...marksOf(pve, request, vmid, FIRST),
        memory: '16',
        ...(place.pool !== undefined && { pool: place.pool }),
      }),
    )
    return true
  } catch (error) {
    if (isTaken(error, vmid)) return false
    // Perhaps Proxmox makes it all the same; nobody would remove it then.
    await ownership(pve, request, { node, vmid })[Symbol.asyncDispose]()
    throw error
  }
}

/** Whose the VMID is, on whatever node; undefined when it is free again. */
async function findHolder(pve: Pve, place: Place, vmid: number) {
  using patience = withDeadline(undefined, CREATE_SECONDS, 'somebody else creating a guest')
  let locked: LockedGuest | undefined
  const look = async () => {
    let node = place.node
    let config = await configIfThere(pve, { kind: KIND, node, vmid })
    if (config === undefined) {
      const rows = await pve.api.cluster.resources.$get({ type: 'vm' })
      const elsewhere = rows.find((row) => row.vmid === vmid && row.node !== place.node)
      if (elsewhere === undefined) return { holder: undefined }
      node = elsewhere.node
      config = await configIfThere(pve, { kind: KIND, node, vmid })
    }
    if (config === undefined) return { holder: undefined }
    // Another builder may be claiming the same image at this moment: wait until the claim shows who.
    if (isBeingMade(config) && !patience.aborted) {
      locked ??= new LockedGuest(pve, { kind: KIND, node, vmid })
      const { by } = await locked.look()
      if (by === 'task' || by === 'unsettled') return undefined
    }
    return { holder: { node, vmid, config } }
  }
  for (;;) {
    const seen = await look()
    if (seen !== undefined) return seen.holder
    await sleep(200, patience).catch(() => undefined)
  }
}

async function takeOver(pve: Pve, request: Claiming, holder: Holder): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await write(pve, request, holder, holder.config.digest, FIRST)
    } catch (cause) {
      if (isAnswerLost(cause)) {
        const config = await configIfThere(pve, { kind: KIND, ...holder })
        if (config && parseNote(holder.vmid, config.description)?.run === request.run) return
        // As it was: the write has not arrived.
        if (config?.digest === holder.config.digest && tries < TRIES) continue
      } else if (!/mismatch|file change by other user|does not exist/i.test((cause as Error).message))
        throw cause
      throw new ClaimTaken(request.image, cause)
    }
  }
}
