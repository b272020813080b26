import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { DeadlineError, poll, withDeadline } from '../core/scope.ts'
import type { GuestConfig } from '../pve/answers.ts'
import type { Claim } from '../pve/claim-held.ts'
import type { Pve } from '../pve/client.ts'
import { configIfThere, isBeingMade } from '../pve/destroy.ts'
import {
  clusterGuests,
  type GuestKind,
  type GuestRef,
  type GuestRow,
  guestLabel,
  nodeGuests,
} from '../pve/guest-ref.ts'
import { linkedClones } from '../pve/linked-clones.ts'
import { LockedGuest, lockedGuest, mayBeOurs } from '../pve/locked-guest.ts'
import { fromTags, parseNote } from '../pve/marks.ts'
import type { Place } from '../pve/place.ts'
import type { Template } from '../pve/templates.ts'

/** `template.vmid`: which VMID an image's current template has on a node, and whether it can be had. */

/** Who asks, and for which image. */
export interface SwapBy {
  pve: Pve
  place: Place
  namespace: string
  image: string
  emit: Emit
  signal: AbortSignal
  /** of a build, which must have it still when the old template goes */
  claim?: Claim
}

/** Seconds that an earlier run's copy is waited for, while Proxmox goes on making it. */
const MAKING_SECONDS = 600

/**
 * @param vmid as the definition says it: one number, or one for each node
 * @returns undefined where templates on this node have VMIDs of the range
 * @throws ImagebuildError `definition_invalid` where one number is to serve several nodes
 */
export function fixedVmidOn(
  { name, vmid }: { name: string; vmid: number | Readonly<Record<string, number>> | undefined },
  node: string,
  nodes: readonly string[],
): number | undefined {
  if (typeof vmid !== 'number')
    return vmid !== undefined && Object.hasOwn(vmid, node) ? vmid[node] : undefined
  if (nodes.length <= 1) return vmid
  throw new ImagebuildError({
    code: 'definition_invalid',
    what: `template.vmid of ${name} is ${vmid}, and the target has ${nodes.length} nodes`,
    why: 'a VMID is one guest’s in the whole cluster',
    next: `name one for each: vmid: { ${nodes.map((one, index) => `${one}: ${vmid + index}`).join(', ')} }`,
  })
}

/** What is at a VMID. `copy`: one of ours that is not finished. */
export type Occupant =
  | { is: 'nothing' }
  | { is: 'template'; template: Template; config: GuestConfig }
  | { is: 'copy'; guest: GuestRef; run: string }
  | { is: 'foreign'; label: string; node: string }

/**
 * @throws ImagebuildError where somebody else is making something there, where what was to be made never was, and `busy`
 * where what these credentials have ordered is not done after ten minutes
 */
export async function lookAt(by: SwapBy, vmid: number): Promise<Occupant> {
  using patience = withDeadline(by.signal, MAKING_SECONDS, `${by.place.node} making guest ${vmid}`)
  const locked: Locked = new Map()
  try {
    return await poll(() => lookOnce(by, vmid, locked), { signal: patience, first: 200, max: 1000 })
  } catch (cause) {
    if (by.signal.aborted || !(cause instanceof DeadlineError)) throw cause
    throw new ImagebuildError({
      code: 'busy',
      what: `${by.place.node} has been making guest ${vmid} for ${MAKING_SECONDS} s`,
      why: 'only when it is done can be told whose it is',
      next: `look at its tasks on ${by.place.node}, and run again later`,
      cause,
    })
  }
}

/** What is watched while it is being made. */
type Locked = Map<GuestKind, LockedGuest>

/** Undefined while it is being made, and may be ours: whose it is shows at the end. */
async function lookOnce(by: SwapBy, vmid: number, locked: Locked): Promise<Occupant | undefined> {
  const { pve, place, namespace, image } = by
  const near = (await nodeGuests(pve, place.node)).find((row) => row.vmid === vmid)
  const row = near === undefined ? await elsewhere(by, vmid) : { ...near, node: place.node }
  if (row === undefined) return { is: 'nothing' }
  const { kind, node } = row
  const foreign: Occupant = { is: 'foreign', label: named(row), node }
  if (node !== place.node) return foreign
  const config = await configIfThere(pve, { kind, node, vmid })
  if (config === undefined) return { is: 'nothing' }
  if (isBeingMade(config)) {
    const guest = { kind, node, vmid }
    const watched = locked.get(kind) ?? new LockedGuest(pve, guest)
    locked.set(kind, watched)
    const making = await watched.look()
    if (mayBeOurs(making)) return undefined
    throw lockedGuest(pve, guest, making)
  }
  const note = parseNote(vmid, config.description)
  if (note?.namespace !== namespace || note.image !== image) return foreign
  if (note.swap === vmid) return { is: 'copy', guest: { kind, node, vmid }, run: note.run }
  const marks = fromTags(vmid, config.tags)
  if (!config.template || marks?.namespace !== namespace || marks.image !== image) return foreign
  return { is: 'template', config, template: { kind, node, vmid, name: row.name ?? guestLabel(row), marks } }
}

async function elsewhere(
  { pve, place }: SwapBy,
  vmid: number,
): Promise<(GuestRow & { node: string }) | undefined> {
  return (await clusterGuests(pve)).find((row) => row.vmid === vmid && row.node !== place.node)
}

function named(row: GuestRow): string {
  return row.name === undefined ? guestLabel(row) : `${guestLabel(row)} (${row.name})`
}

/**
 * Whether the image's template can get this VMID: asked before anything is built, and again before the old one goes.
 * @throws ImagebuildError `build_failed` that names what is in the way
 */
export async function requireFixedVmid(by: SwapBy, vmid: number): Promise<Occupant> {
  const there = await lookAt(by, vmid)
  if (there.is === 'foreign') throw occupied(by, vmid, there)
  if (there.is === 'nothing') await requireFree(by, vmid)
  if (there.is === 'template') await requireRemovable(by, there.template, there.config)
  return there
}

/** Guests that these credentials may not see have VMIDs too. */
async function requireFree(by: SwapBy, vmid: number): Promise<void> {
  try {
    await by.pve.api.cluster.nextid.$get({ vmid })
  } catch (error) {
    by.signal.throwIfAborted()
    if (!/already exists|already used/i.test(allWords(error))) throw error
    throw occupied(by, vmid, {
      label: `guest ${vmid}, which these credentials may not see`,
      node: 'its node',
    })
  }
}

function allWords(error: unknown): string {
  const { fields = {} } = error as { fields?: Record<string, string> }
  return [asImagebuildError(error).message, ...Object.values(fields)].join(' ')
}

function occupied({ image, place }: SwapBy, vmid: number, { label, node }: { label: string; node: string }) {
  return new ImagebuildError({
    code: 'build_failed',
    what: `the template of ${image} shall be ${vmid} on ${place.node}, and that VMID is taken`,
    why: `${label} on ${node} is no template of ${image}, so imagebuild leaves it alone`,
    next: 'move it away (back it up, restore it with another VMID, remove it), or choose another template.vmid',
  })
}

async function requireRemovable(
  { pve, image }: SwapBy,
  template: Template,
  config: GuestConfig,
): Promise<void> {
  const label = `${guestLabel(template)}, version ${template.marks.version} of ${image}`
  if (config.protection) {
    throw new ImagebuildError({
      code: 'build_failed',
      what: `${label}, is protected, and must make room for the next one`,
      why: 'its VMID is fixed: Proxmox removes nothing that is protected',
      next: 'take the protection off in its options, or take template.vmid out of the definition',
    })
  }
  const clones = await linkedClones(pve, template, config)
  if (clones.length > 0) throw hasLinkedClones(label, clones.map((clone) => clone.label).join(', '))
}

/** @param clones `VM 130 (shop), VM 131` */
export function hasLinkedClones(label: string, clones: string): ImagebuildError {
  return new ImagebuildError({
    code: 'build_failed',
    what: `${label}, has linked clones, and must make room for the next one: ${clones}`,
    why: 'its VMID is fixed: Proxmox removes no template whose disks others stand on',
    next: 'make full clones of it (full = true in Terraform) and replace these, or move their disks (which makes them complete); then run again',
  })
}
