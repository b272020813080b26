import { asImagebuildError } from '../core/errors.ts'
import { configIfThere, destroyGuest } from '../pve/destroy.ts'
import { type GuestRef, guestLabel, nodeGuests, readConfig } from '../pve/guest-ref.ts'
import { linkedClones } from '../pve/linked-clones.ts'
import { mark } from '../pve/marking.ts'
import { fromTags, parseNote } from '../pve/marks.ts'
import { byVersion, nodeTemplates, type Template } from '../pve/templates.ts'
import type { Occupant, SwapBy } from './fixed-vmid.ts'

/** What there is of a swap, told by marks and notes alone, and how it goes. */
export interface Remains {
  fixed: number
  /** what gets the fixed VMID */
  source?: Template | undefined
  /** finished copies of what had it */
  standins: Template[]
  /** copies in the range that are not finished */
  unfinished: (GuestRef & { run: string })[]
}

/** Of one image on one node, by the fixed VMIDs that they are about. */
export async function remainsOf({ pve, place, namespace, image }: SwapBy): Promise<Remains[]> {
  const look = async () =>
    (await nodeTemplates(pve, place.node, namespace)).filter(({ marks }) => marks.image === image)
  const templates = await look()
  const found = new Map<number, Remains>()
  const of = (fixed: number) => {
    const one = found.get(fixed) ?? { fixed, standins: [], unfinished: [] }
    found.set(fixed, one)
    return one
  }
  for (const template of templates.sort(byVersion)) {
    const { swap, standin } = template.marks
    if (swap === undefined) continue
    if (standin) of(swap).standins.push(template)
    else if (template.vmid === swap) of(swap)
    else of(swap).source = template
  }
  for (const copy of await unfinishedCopies({ pve, place, namespace })) {
    if (copy.image !== image) continue
    const { unfinished } = of(copy.fixed)
    if (copy.vmid !== copy.fixed) unfinished.push(copy)
  }
  return [...found.values()]
}

/** Of all images on one node. */
export async function allRemains(by: Omit<SwapBy, 'image'>): Promise<(Remains & { image: string })[]> {
  const { pve, place, namespace } = by
  const marked = (await nodeTemplates(pve, place.node, namespace)).filter(
    ({ marks }) => marks.swap !== undefined,
  )
  const copies = await unfinishedCopies(by)
  const images = new Set([...marked.map(({ marks }) => marks.image), ...copies.map(({ image }) => image)])
  const found: (Remains & { image: string })[] = []
  for (const image of [...images].sort()) {
    for (const remains of await remainsOf({ ...by, image })) found.push({ ...remains, image })
  }
  return found
}

interface Unfinished extends GuestRef {
  image: string
  fixed: number
  run: string
}

/** Until its last call a copy has a note of its own, and its tags or those of what it was copied from. */
export async function unfinishedCopies({
  pve,
  place,
  namespace,
}: Pick<SwapBy, 'pve' | 'place' | 'namespace'>): Promise<Unfinished[]> {
  const { node, vmids } = place
  const found: Unfinished[] = []
  for (const { kind, vmid, tags, lock } of await nodeGuests(pve, node)) {
    if (lock === 'create' || lock === 'clone') continue
    const isNear =
      (vmid >= vmids.templates.first && vmid <= vmids.templates.last) || vmids.fixed?.includes(vmid)
    const marks = fromTags(vmid, tags)
    const inherits = marks === undefined && tags?.split(/[;, ]/).includes(`ib-ns-${namespace}`)
    const isMarked = marks?.namespace === namespace && marks.state === 'building' && marks.swap !== undefined
    if (!isNear || !(inherits || isMarked)) continue
    const note = parseNote(vmid, (await configIfThere(pve, { kind, node, vmid }))?.description)
    if (note?.namespace !== namespace || note.swap === undefined) continue
    found.push({ kind, node, vmid, image: note.image, fixed: note.swap, run: note.run })
  }
  return found
}

/** Nothing gets the VMID any more: what had it has it still, or its stand-in is what there is. */
export async function settleRemains(by: SwapBy, remains: Remains, there: Occupant): Promise<void> {
  for (const standin of remains.standins) {
    const isThere = there.is === 'template' && there.template.marks.version === standin.marks.version
    if (isThere) await removeStandin(by, standin)
    else await mark(by.pve, standin, () => ({ standin: undefined, swap: undefined }))
  }
  for (const { run, ...guest } of remains.unfinished)
    await destroyGuest(by.pve, { ...guest, run, signal: by.signal })
  // Its promotion was cut off, and what it was copied from is gone: the next run takes it.
  if (there.is === 'template' && there.template.marks.swap === remains.fixed && !remains.source)
    await mark(by.pve, there.template, () => ({ swap: undefined }))
  if (there.is === 'copy') await destroyGuest(by.pve, { ...there.guest, run: there.run, signal: by.signal })
}

/** Another one is current: what was cut off, or overtaken, must not undo that. */
export async function giveWay(by: SwapBy, remains: Remains, there: Occupant): Promise<void> {
  await settleRemains(by, { ...remains, source: undefined }, there)
  if (remains.source !== undefined) await release(by, remains.source)
}

/** The old one is still there: the stand-in goes, and the new one waits as it did. */
export async function abandon(by: SwapBy, { source, standins, unfinished }: Remains): Promise<void> {
  for (const standin of standins) await removeStandin(by, standin)
  for (const { run, ...guest } of unfinished) await destroyGuest(by.pve, { ...guest, run, signal: by.signal })
  if (source !== undefined) await release(by, source)
}

/** Nothing is about to happen to it any more. */
export async function release({ pve }: SwapBy, source: Template): Promise<void> {
  await mark(pve, source, ({ state }) => ({
    swap: undefined,
    ...(state !== 'current' && { held: undefined }),
  }))
}

/** Somebody may have cloned it by its VMID: then it is a template like others. */
async function removeStandin(by: SwapBy, standin: Template): Promise<void> {
  const why = await whyNotRemovable(by, standin)
  if (why === undefined) return
  await mark(by.pve, standin, () => ({
    ...{ state: 'retired', standin: undefined, swap: undefined, held: undefined, turn: undefined },
  }))
  stays(by, standin, why)
}

/** What was copied to the fixed VMID goes, unless somebody needs it: then it is an old version like others. */
export async function discard(by: SwapBy, source: Template): Promise<void> {
  const why = await whyNotRemovable(by, source)
  if (why === undefined) return
  await mark(by.pve, source, () => ({
    ...{ state: 'retired', swap: undefined, held: undefined, turn: undefined, expires: undefined },
  }))
  stays(by, source, why)
}

function stays({ emit, image }: SwapBy, template: Template, why: string): void {
  const message = `${guestLabel(template)}, a second template of version ${template.marks.version}, stays: ${why}`
  emit({ type: 'info', image, message })
}

/** Removes a template. @returns why it stays, where Proxmox would not or somebody needs it */
async function whyNotRemovable({ pve, signal }: SwapBy, template: Template): Promise<string | undefined> {
  const config = await readConfig(pve, template)
  if (config.protection) return 'it is protected'
  const clones = await linkedClones(pve, template, config)
  if (clones.length > 0) return `it has linked clones: ${clones.map(({ label }) => label).join(', ')}`
  const { kind, node, vmid } = template
  try {
    await destroyGuest(pve, { kind, node, vmid, signal })
    return undefined
  } catch (error) {
    signal.throwIfAborted()
    if (!/still in use by linked clone/i.test(asImagebuildError(error).message)) throw error
    return 'it has linked clones, which these credentials may not see'
  }
}
