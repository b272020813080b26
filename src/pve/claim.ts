import { ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { CLEANUP_SECONDS, Ownership } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { destroyGuest, isTaken } from './guests.ts'
import { fromTags, type Note, type Owner, parseNote, renderNote, toTags } from './marks.ts'
import { hasEnded } from './owner.ts'
import type { Place } from './place.ts'
import { type GuestConfig, readConfig } from './templates.ts'

/**
 * One builder per image in the whole cluster. Creating a VMID is atomic in Proxmox, so a diskless VM at a VMID
 * that follows from (namespace, image) is the lock; its note says who holds it and until when. The holder
 * renews it; whoever finds it expired, or its owner dead, takes it over by compare-and-swap on the config.
 */

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

/** @throws ImagebuildError `busy` when another builder holds the image */
export async function claimImage(pve: Pve, request: ClaimRequest): Promise<AsyncDisposable> {
  const { first, last } = request.place.vmids.claims
  const count = last - first + 1
  for (let offset = 0; offset < count; offset += 1) {
    const vmid = first + ((request.slot + offset) % count)
    const outcome = await tryClaim(pve, request, vmid)
    if (outcome !== 'foreign') return hold(pve, request, vmid)
  }
  throw new ImagebuildError({
    code: 'busy',
    what: `all VMIDs for claims, ${first} to ${last}, are taken`,
    next: 'run `imagebuild prune`, or give the target a larger vmids.claims',
  })
}

async function tryClaim(pve: Pve, request: ClaimRequest, vmid: number): Promise<'ours' | 'foreign'> {
  const { place, image, namespace } = request
  try {
    const upid = (await pve.api.nodes.$(place.node).qemu.$post({
      vmid,
      name: `ib-claim-${image}`,
      ...marksOf(request, vmid),
      memory: '16',
      ...(place.pool !== undefined && { pool: place.pool }),
    })) as string
    await pve.waitTask(upid, { seconds: CLEANUP_SECONDS })
    return 'ours'
  } catch (error) {
    if (!isTaken(error)) throw error
  }
  const config = await readConfig(pve, place.node, vmid).catch(() => undefined)
  if (config === undefined) return 'foreign' // on another node, or gone this moment: the next slot is as good
  const marks = fromTags(vmid, config.tags)
  if (marks?.state !== 'claim' || marks.namespace !== namespace || marks.image !== image) return 'foreign'
  const note = parseNote(vmid, config.description)
  if (note !== undefined && !(await isStale(note))) throw heldBy(image, note)
  await takeOver(pve, request, vmid, config)
  return 'ours'
}

/** Nobody can still be working under this note. */
export async function isStale(note: Note): Promise<boolean> {
  if ((note.expires ?? 0) * 1000 < Date.now()) return true
  return note.owner !== undefined && (await hasEnded(note.owner)) === true
}

async function takeOver(pve: Pve, request: ClaimRequest, vmid: number, config: GuestConfig): Promise<void> {
  try {
    await write(pve, request, vmid, config.digest)
  } catch (cause) {
    throw new ImagebuildError({
      code: 'busy',
      what: `another builder took over the expired claim on ${request.image} at the same moment`,
      next: 'try again in a few minutes',
      cause,
    })
  }
}

function heldBy(image: string, note: Note): ImagebuildError {
  const who = note.owner === undefined ? 'another builder' : `process ${note.owner.pid} on ${note.owner.host}`
  const until = new Date((note.expires ?? 0) * 1000).toISOString()
  return new ImagebuildError({
    code: 'busy',
    what: `${image} is being built already`,
    why: `${who} holds it (run ${note.run}; its claim is good until ${until} if it is not renewed)`,
    next: 'wait for it to finish, and run again',
  })
}

function marksOf(request: ClaimRequest, vmid: number): { tags: string; description: string } {
  const { namespace, image, run, owner, tool } = request
  const expires = Math.ceil(Date.now() / 1000) + CLAIM_SECONDS
  return {
    tags: toTags({ vmid, namespace, image, state: 'claim', expires }),
    description: renderNote({ schema: 1, vmid, namespace, image, kind: 'vm', tool, run, owner, expires }),
  }
}

async function write(pve: Pve, request: ClaimRequest, vmid: number, digest: string): Promise<void> {
  await pve.api.nodes
    .$(request.place.node)
    .qemu.$(vmid)
    .config.$put({ ...marksOf(request, vmid), digest })
}

function hold(pve: Pve, request: ClaimRequest, vmid: number): AsyncDisposable {
  const { place, image, emit, run } = request
  const renew = async () => {
    const config = await readConfig(pve, place.node, vmid)
    const note = parseNote(vmid, config.description)
    if (note?.run !== run)
      throw new Error(`the claim on ${image} (VM ${vmid}) now belongs to run ${note?.run}`)
    await write(pve, request, vmid, config.digest)
  }
  let failures = 0
  const timer = setInterval(() => {
    renew().then(
      () => {
        failures = 0
      },
      (error: Error) => {
        failures += 1
        // One refused renewal may be a hiccup; the claim is good for several.
        if (
          failures * RENEW_SECONDS >= CLAIM_SECONDS - RENEW_SECONDS ||
          /now belongs to/.test(error.message)
        ) {
          request.onLost(error)
        }
      },
    )
  }, RENEW_SECONDS * 1000)
  timer.unref()
  const owned = new Ownership({
    resource: `the claim on ${image} (VM ${vmid} on ${place.node})`,
    image,
    next: 'run `imagebuild prune`',
    emit,
    remove: async (signal) => {
      await destroyGuest(pve.withSignal(signal), { node: place.node, vmid, run, signal })
    },
  })
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await owned[Symbol.asyncDispose]()
    },
  }
}
