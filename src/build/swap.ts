import { asImagebuildError } from '../core/errors.ts'
import { step } from '../core/events.ts'
import { copyTemplate } from '../pve/copy-template.ts'
import { destroyGuest } from '../pve/destroy.ts'
import { guestApi, guestLabel, readConfig } from '../pve/guest-ref.ts'
import { mark } from '../pve/marking.ts'
import { promote, tidy, yieldIfRolledBack } from '../pve/promotion.ts'
import { nodeTemplates, select, type Template } from '../pve/templates.ts'
import { hasLinkedClones, lookAt, type Occupant, requireFixedVmid, type SwapBy } from './fixed-vmid.ts'
import { lockSwap, type SwapLock } from './swap-lock.ts'
import { abandon, discard, type Remains, remainsOf, settleRemains } from './swap-remains.ts'

/**
 * A template gets a fixed VMID. Proxmox gives no guest another one, so what has it must go before the next one can be made
 * there: between the two, a full copy of the old one stands in for it. What is intended is marked first, and each step
 * begins by looking at what is there, so whoever comes next finishes what was cut off.
 */
export interface Swapped {
  /** at the fixed VMID */
  template: Template
  /** seconds from the old one's removal until the new one counted; missing where nothing had that VMID before */
  seconds?: number
  /** rolled back meanwhile: nothing was swapped, this one stays current */
  yieldedTo?: Template
}

/** Seconds that may pass while nothing is at the VMID; nobody's Ctrl-C shortens it. */
const WINDOW_SECONDS = 7200

export interface SwapOptions {
  /** version of imagebuild */
  tool: string
  /** somebody asks for this one: with true builds do not replace it; missing where a build does, or it only moves */
  held?: boolean
  /** highest turn of the image when the build began that promotes its result */
  since?: number
}

/**
 * Brings a proven template to its image's fixed VMID, and makes it current there.
 * @throws ImagebuildError where something is in the way; the template then waits as it was
 */
export async function swap(
  by: SwapBy,
  source: Template,
  fixed: number,
  { tool, held, since }: SwapOptions,
): Promise<Swapped> {
  await using lock = await lockSwap(by, { tool, wait: true })
  const inside = { ...by, signal: lock.signal, pve: by.pve.withSignal(lock.signal) }
  await settleAll(inside, lock, held === undefined ? 'finish' : 'abandon')
  const yieldedTo = since === undefined ? undefined : await yieldIfRolledBack(inside.pve, source, since)
  if (yieldedTo !== undefined) return { template: source, yieldedTo }
  const there = await lookAt(inside, fixed)
  if (there.is === 'template' && there.template.marks.version === source.marks.version) {
    // Somebody has brought it there, or it was on its way.
    const asWanted = { ...source, marks: { ...source.marks, held: held ?? false } }
    await becomeCurrent(inside, asWanted, there.template)
    return { template: there.template }
  }
  await requireFixedVmid(inside, fixed)
  const marks = await mark(inside.pve, source, (now) => ({
    swap: fixed,
    held: (held ?? now.held) || undefined,
  }))
  return await finishSwap(inside, lock, { ...source, marks: marks ?? source.marks }, fixed)
}

/**
 * Finishes the swaps of one image on one node that were cut off.
 * @param wait whether somebody's swap that is under way is waited for
 * @returns seconds of the last window, where one was closed
 */
export async function finishSwaps(
  by: SwapBy,
  how: { tool: string; wait: boolean },
): Promise<{ finished: number; seconds?: number }> {
  if ((await remainsOf(by)).length === 0) return { finished: 0 }
  await using lock = await lockSwap(by, how)
  return await settleAll({ ...by, signal: lock.signal, pve: by.pve.withSignal(lock.signal) }, lock, 'finish')
}

/** Under the lock, so whatever of a swap is there was cut off. */
async function settleAll(
  by: SwapBy,
  lock: SwapLock,
  how: 'finish' | 'abandon',
): Promise<{ finished: number; seconds?: number }> {
  const remains = await remainsOf(by)
  let seconds: number | undefined
  for (const one of remains) {
    const there = await lookAt(by, one.fixed)
    if (one.source === undefined) await settleRemains(by, one, there)
    else if (how === 'abandon' && oldOne(there, one.source) !== undefined) await abandon(by, one)
    else {
      const message = `finishing what was cut off: version ${one.source.marks.version} gets VMID ${one.fixed}`
      by.emit({ type: 'info', image: by.image, message })
      seconds = (await finishSwap(by, lock, one.source, one.fixed)).seconds ?? seconds
    }
  }
  return { finished: remains.length, ...(seconds !== undefined && { seconds }) }
}

/** What has to go is still there, so nothing is lost by leaving it. */
function oldOne(there: Occupant, source: Template): Template | undefined {
  if (there.is !== 'template' || there.template.marks.version === source.marks.version) return undefined
  return there.template
}

/** Looks at what is there and does the next step, until the marked template's copy counts and nothing else is left of it. */
async function finishSwap(by: SwapBy, lock: SwapLock, source: Template, fixed: number): Promise<Swapped> {
  let seconds: number | undefined
  for (;;) {
    const there = await lookAt(by, fixed)
    const old = oldOne(there, source)
    if (there.is === 'template' && old === undefined) {
      const template = await complete(by, source, there.template, fixed)
      return { template, ...(seconds !== undefined && { seconds }) }
    }
    if (there.is === 'foreign') {
      // Taken by somebody while nothing was there: who it is and what to do says this.
      await requireFixedVmid(by, fixed)
      continue
    }
    if (old !== undefined) {
      await standIn(by, lock, old, fixed)
      await requireRoom(by, fixed)
    }
    seconds = await replace(by, lock, source, fixed, there)
  }
}

/** The old one's copy, with its marks: it counts as soon as the old one is gone. */
async function standIn(by: SwapBy, lock: SwapLock, old: Template, fixed: number): Promise<void> {
  const found = (await remainsOf(by)).find((one) => one.fixed === fixed)
  if (found?.standins.some(({ marks }) => marks.version === old.marks.version)) return
  const { vmid: _, ...marks } = old.marks
  const label = `copying ${guestLabel(old)}, version ${old.marks.version}, which stands in for it`
  await during(by, 'stand-in', label, (onLine) =>
    copyTemplate(by.pve, old, copying(by, lock, fixed, onLine), {
      marks: { ...marks, standin: true, swap: fixed },
    }),
  )
}

/** Somebody may have cloned or protected it meanwhile. Then all is as before, and the new one waits. */
async function requireRoom(by: SwapBy, fixed: number): Promise<void> {
  try {
    await requireFixedVmid(by, fixed)
  } catch (error) {
    if (asImagebuildError(error).code === 'build_failed') await abandonAll(by, fixed)
    throw error
  }
}

async function abandonAll(by: SwapBy, fixed: number): Promise<void> {
  for (const one of await remainsOf(by)) if (one.fixed === fixed) await abandon(by, one)
}

/** @returns seconds that the VMID was nobody's; undefined where it was before */
async function replace(
  by: SwapBy,
  lock: SwapLock,
  source: Template,
  fixed: number,
  there: Occupant,
): Promise<number | undefined> {
  const { image, emit, pve } = by
  const [remains] = (await remainsOf(by)).filter((one) => one.fixed === fixed)
  const old = oldOne(there, source)
  const wasThere = old !== undefined || (remains?.standins.length ?? 0) > 0
  // From here on nothing but a kill stops it: what Terraform clones is away.
  const signal = AbortSignal.timeout(WINDOW_SECONDS * 1000)
  const inside: SwapBy = { ...by, signal, pve: pve.withSignal(signal) }
  const { version } = source.marks
  const label = wasThere
    ? `replacing VMID ${fixed} by version ${version}`
    : `making version ${version} at VMID ${fixed}`
  const started = performance.now()
  await during(by, 'swap', label, async (onLine) => {
    if (old !== undefined) await removeOld(inside, old, fixed)
    if (there.is === 'copy') await destroyGuest(inside.pve, { ...there.guest, run: there.run, signal })
    const made = await copyTemplate(
      inside.pve,
      source,
      { ...copying(inside, lock, fixed, onLine), at: fixed },
      { marks: marksAtFixed(source), ...noteAtFixed(remains) },
    )
    await becomeCurrent(inside, source, made)
  })
  if (!wasThere) return undefined
  const seconds = (performance.now() - started) / 1000
  emit({ type: 'info', image, message: `VMID ${fixed} was away for ${seconds.toFixed(1)} s` })
  return seconds
}

/** Without `purge`, which would strike the VMID out of backup jobs: it is there again in a moment. */
async function removeOld({ pve, signal, image, ...by }: SwapBy, old: Template, fixed: number): Promise<void> {
  try {
    const upid = (await guestApi(pve, old).$delete()) as string
    await pve.waitTask(upid, { seconds: 300, signal })
  } catch (error) {
    if (!/still in use by linked clone/i.test(asImagebuildError(error).message)) throw error
    await abandonAll({ pve, signal, image, ...by }, fixed)
    throw hasLinkedClones(
      `${guestLabel(old)}, version ${old.marks.version} of ${image}`,
      'some that these credentials may not see',
    )
  }
}

/** What is current moves with its turn; all else becomes current by a promotion. */
function marksAtFixed({ marks }: Template): Parameters<typeof copyTemplate>[3]['marks'] {
  const { vmid: _vmid, swap: _swap, standin: _standin, expires: _expires, ...rest } = marks
  if (rest.state === 'current') return rest
  const { turn: _turn, held: _held, ...others } = rest
  return { ...others, state: 'candidate' }
}

function noteAtFixed(remains: Remains | undefined): { note?: { previous: number } } {
  const [standin] = remains?.standins ?? []
  return standin === undefined ? {} : { note: { previous: standin.vmid } }
}

async function becomeCurrent(by: SwapBy, source: Template, made: Template): Promise<void> {
  const { pve, namespace, image, place } = by
  const held = source.marks.held ?? false
  const current = select(await nodeTemplates(pve, place.node, namespace), image, 'current', place.node)
  if (current?.vmid === made.vmid && (current.marks.held ?? false) === held) return
  const { untidy } = await promote(pve, made, { held })
  for (const { message } of untidy) by.emit({ type: 'warning', image, message })
}

/** It is there: it counts, the stand-in becomes an ordinary previous one, and what it was copied from goes. */
async function complete(by: SwapBy, source: Template, there: Template, fixed: number): Promise<Template> {
  const { pve, namespace, image, place } = by
  await becomeCurrent(by, source, there)
  const all = (await nodeTemplates(pve, place.node, namespace)).filter(({ marks }) => marks.image === image)
  for (const failure of await tidy(pve, all)) throw failure
  for (const remains of await remainsOf(by)) {
    if (remains.fixed !== fixed) continue
    await settleRemains(
      by,
      { ...remains, source: undefined },
      { is: 'template', template: there, config: await readConfig(pve, there) },
    )
  }
  await discard(by, source)
  return select(await nodeTemplates(pve, place.node, namespace), image, 'current', place.node) ?? there
}

function copying(
  { place, emit, signal }: SwapBy,
  { run }: SwapLock,
  fixed: number,
  onLine: (line: string) => void,
) {
  return { place, run, fixed, emit, signal, onLine }
}

function during<T>(
  { emit, image }: SwapBy,
  name: string,
  label: string,
  work: (onLine: (line: string) => void) => Promise<T>,
): Promise<T> {
  const onLine = (line: string) => emit({ type: 'output', image, step: name, stream: 'task', line })
  return step(emit, { image, step: name, label }, () => work(onLine))
}
