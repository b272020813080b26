import { asImagebuildError } from '../core/errors.ts'
import { sleep, withDeadline } from '../core/scope.ts'
import { ClaimLost } from '../pve/claim-refused.ts'
import { mark } from '../pve/marking.ts'
import { requireStaying, yieldIfRolledBack } from '../pve/promotion.ts'
import { byVersion, nodeTemplates, select, type Template } from '../pve/templates.ts'
import { isTaken } from '../pve/vmids.ts'
import { lookAt, requireFixedVmid, type SwapBy } from './fixed-vmid.ts'
import { awaitMaking } from './locked-guests.ts'
import {
  isInDoubt,
  Overtaken,
  requireNotOvertaken,
  type Standing,
  standingOf,
  unlessOvertaken,
} from './overtaken.ts'
import { isLockAbandoned, lockSwap, type SwapLock } from './swap-lock.ts'
import { abandon, giveWay, type Remains, remainsOf, settleRemains } from './swap-remains.ts'
import { abandonAll, becomeCurrent, complete, oldOne, replace, standIn, whileAway } from './swap-steps.ts'

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

/** Times that the copy is tried while nothing is at the VMID. */
const TRIES = 3

/** Seconds that may pass while nothing is at the VMID; nobody's Ctrl-C shortens it. */
const WINDOW_SECONDS = 7200

/** Seconds that a cancelled swap may take to leave all as it was: the copy that is being made must be complete to be removed. */
const TAKE_BACK_SECONDS = 120

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
 * @throws ImagebuildError where something is in the way, Overtaken where another run was quicker; the template then waits as it was
 */
export async function swap(
  by: SwapBy,
  source: Template,
  fixed: number,
  { tool, held, since }: SwapOptions,
): Promise<Swapped> {
  await using lock = await lockSwap(by, { tool, wait: true })
  const inside = underLock(by, lock)
  await settleAll(inside, lock, held === undefined ? 'finish' : 'abandon')
  const yieldedTo = since === undefined ? undefined : await yieldIfRolledBack(inside.pve, source, since)
  if (yieldedTo !== undefined) return { template: source, yieldedTo }
  if (since === undefined && held === undefined) {
    // It moves because it is current: somebody may have made another one so.
    const now = select(await nodeTemplates(by.pve, by.place.node, by.namespace), by.image)
    if (now !== undefined && now.marks.version !== source.marks.version) return { template: now }
  }
  const standing = await standingOf(inside, lock, source, since)
  const there = await lookAt(inside, fixed)
  if (there.is === 'template' && there.template.marks.version === source.marks.version) {
    // Somebody has brought it there, or it was on its way.
    const asWanted = { ...source, marks: { ...source.marks, held: held ?? false } }
    await becomeCurrent(inside, asWanted, there.template, standing)
    return { template: there.template }
  }
  await requireFixedVmid(inside, fixed)
  const marks = await mark(unlessOvertaken(inside.pve, standing), source, (now) => {
    requireStaying(source, now)
    return { swap: fixed, held: (held ?? now.held) || undefined }
  })
  const marked = { ...source, marks: marks ?? source.marks }
  try {
    return await finishSwap(inside, lock, marked, fixed, standing)
  } catch (error) {
    const isCancelled = by.signal.aborted && (held !== undefined || by.signal.reason instanceof ClaimLost)
    if (isCancelled) await takeBack(inside, marked, fixed)
    throw error
  }
}

/** What is done under the lock ends with it, and waits after each pause of this process until the lock is confirmed. */
function underLock(by: SwapBy, lock: SwapLock, signal = lock.signal): SwapBy {
  return { ...by, signal, pve: lock.guard(by.pve.withSignal(signal)) }
}

/** Who asked for it has changed his mind, or has lost the image to another run: where nothing has gone yet, nobody shall finish it. */
async function takeBack(by: SwapBy, source: Template, fixed: number): Promise<void> {
  using signal = withDeadline(undefined, TAKE_BACK_SECONDS, 'taking the swap back')
  const after: SwapBy = { ...by, signal, pve: by.pve.withSignal(signal) }
  try {
    if (oldOne(await lookAt(after, fixed), source) !== undefined) await abandonAll(after, fixed)
  } catch (error) {
    const message = `imagebuild prune goes on with making ${source.marks.version} current: ${asImagebuildError(error).message}`
    by.emit({ type: 'warning', image: by.image, message })
  }
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
  if ((await remainsOf(by)).length === 0 && !(await isLockAbandoned(by))) return { finished: 0 }
  await using lock = await lockSwap(by, how)
  return await settleAll(underLock(by, lock), lock, 'finish')
}

/** Under the lock, so whatever of a swap is there was cut off. */
async function settleAll(
  by: SwapBy,
  lock: SwapLock,
  how: 'finish' | 'abandon',
): Promise<{ finished: number; seconds?: number }> {
  // Copies that a dead run has ordered show whose they are when they are made.
  if ((await remainsOf(by)).length > 0) await awaitMaking(by)
  const remains = await remainsOf(by)
  let seconds: number | undefined
  for (const one of remains) {
    const there = await lookAt(by, one.fixed)
    await lock.confirm()
    if (one.source === undefined) await settleRemains(by, one, there)
    else if (await isOutdated(by, one)) await giveWay(by, one, there)
    else if (how === 'abandon' && oldOne(there, one.source) !== undefined) await abandon(by, one)
    else {
      const message = `finishing what was cut off: version ${one.source.marks.version} gets VMID ${one.fixed}`
      by.emit({ type: 'info', image: by.image, message })
      const standing = await standingOf(by, lock, one.source)
      seconds = (await finishSwap(by, lock, one.source, one.fixed, standing)).seconds ?? seconds
    }
  }
  return { finished: remains.length, ...(seconds !== undefined && { seconds }) }
}

/** Where the definition has no fixed VMID any more, a newer one was promoted since: what was cut off must not undo that. */
async function isOutdated(
  { pve, place, namespace, image }: SwapBy,
  { fixed, source, standins }: Remains,
): Promise<boolean> {
  const current = select(await nodeTemplates(pve, place.node, namespace), image, 'current', place.node)
  if (current === undefined || source === undefined || source.marks.held) return false
  const isOfSwap = current.vmid === fixed || standins.some(({ vmid }) => vmid === current.vmid)
  return !isOfSwap && byVersion(current, source) > 0
}

/** @throws Overtaken where another run has made another one current meanwhile: nothing is left of the swap then */
async function finishSwap(
  ...[by, lock, source, fixed, standing]: Parameters<typeof carryOn>
): Promise<Swapped> {
  try {
    return await carryOn(by, lock, source, fixed, standing)
  } catch (error) {
    if (!(error instanceof Overtaken)) throw error
    try {
      for (const one of await remainsOf(by))
        if (one.fixed === fixed) await giveWay(by, one, await lookAt(by, fixed))
    } catch (failure) {
      const message = `imagebuild prune removes what is left of swapping in ${source.marks.version}: ${asImagebuildError(failure).message}`
      by.emit({ type: 'warning', image: by.image, message })
    }
    throw error
  }
}

/** Looks at what is there and does the next step, until the marked template's copy counts and nothing else is left of it. */
async function carryOn(
  by: SwapBy,
  lock: SwapLock,
  source: Template,
  fixed: number,
  standing: Standing,
): Promise<Swapped> {
  const { image, emit, place } = by
  // From the removal on nothing but a kill or the loss of the lock stops it: what Terraform clones is away.
  using signal = withDeadline(lock.lost, WINDOW_SECONDS, `the swap of VMID ${fixed}`)
  const inside = underLock(by, lock, signal)
  let begun: number | undefined
  let seconds: number | undefined
  for (let tries = 1; ; ) {
    const now = begun === undefined ? by : inside
    const there = await lookAt(now, fixed)
    const old = oldOne(there, source)
    if (there.is === 'template' && old === undefined) {
      await lock.confirm(now.signal)
      const template = await complete(now, source, there.template, fixed, standing)
      return { template, ...(seconds !== undefined && { seconds }) }
    }
    // Taken by somebody while nothing was there: who it is and what to do says this.
    if (there.is === 'foreign') await requireFixedVmid(now, fixed)
    if (old !== undefined) {
      await requireNotOvertaken(now.pve, standing)
      await standIn(now, lock, old, fixed)
      await requireRoom(now, fixed)
    }
    const standin = (await remainsOf(now)).find((one) => one.fixed === fixed)?.standins[0]
    if (begun === undefined) await by.claim?.confirm(by.signal)
    begun ??= performance.now()
    try {
      await lock.confirm(signal)
      await requireNotOvertaken(inside.pve, standing)
      await replace(inside, lock, source, fixed, { there, standin, standing })
      if (standin !== undefined) {
        seconds = (performance.now() - begun) / 1000
        const message = `nothing was at VMID ${fixed} for ${seconds.toFixed(1)} s`
        emit({ type: 'info', image, message })
      }
    } catch (error) {
      lock.lost.throwIfAborted()
      if (error instanceof Overtaken) throw error
      const left = await lookAt(inside, fixed).catch(() => undefined)
      const failure = asImagebuildError(error)
      if (left?.is === 'foreign') throw error
      if (left?.is === 'template') {
        // Of another run that had the lock meanwhile? Then the next look tells what it has done.
        await lock.confirm(signal)
        const mayBeTheirs = isTaken(error, fixed) || failure.code === 'busy' || failure.code === 'not_found'
        if (!mayBeTheirs || !isInDoubt(standing.under) || tries === TRIES) throw error
      }
      if (tries === TRIES) throw whileAway(error, { place, image, fixed, standin })
      const state = left?.is === 'template' ? 'has changed' : 'is still away'
      const message = `VMID ${fixed} ${state}: ${failure.message}; trying again`
      emit({ type: 'warning', image, message })
      await sleep(tries * 1000, signal)
      tries += 1
    }
  }
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
