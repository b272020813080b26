import { asImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { ImageHeld } from '../pve/claim-refused.ts'
import type { Pve } from '../pve/client.ts'
import { guestLabel } from '../pve/guest-ref.ts'
import type { Place } from '../pve/place.ts'
import { tidy, untidy } from '../pve/promotion.ts'
import { nodeTemplates, readNote, select } from '../pve/templates.ts'
import { awaitMaking } from './locked-guests.ts'
import { swapPrivileges } from './privileges.ts'
import { findLeftovers } from './prune-leftovers.ts'
import { oldVersions, settleOld } from './retention.ts'
import { finishSwaps } from './swap.ts'
import { allRemains } from './swap-remains.ts'

/** What nobody needs any more on one node, and how it goes. */

export interface PruneRequest {
  pve: Pve
  place: Place
  namespace: string
  /** versions of an image that are kept; undefined where nobody here knows, and all are */
  keep: (image: string) => number | undefined
  dryRun: boolean
  /** also what `--on-error keep` kept */
  kept: boolean
  emit: Emit
  signal: AbortSignal
  /** version of imagebuild */
  tool: string
}

export interface Pruned {
  /** `swap`, `promotion`: one that was cut off, and is finished */
  kind: 'swap' | 'promotion' | 'claim' | 'guest' | 'candidate' | 'version' | 'seed'
  id: string
  image: string
  why: string
  /** why it stays all the same */
  spared?: string
}

/** @returns why it stays after all */
export type Work = Pruned & { work: () => Promise<string | undefined> }

/**
 * Finishes swaps and promotions that were cut off, and removes what no living run needs: claims that ended or expired, guests and
 * seeds whose claim is gone, candidates that failed or were forgotten and whose time is over, versions beyond `keep`.
 * Nothing without our marks. What cannot be removed is told as an event of type `leak`.
 * @returns what was done and what was spared; what would be, with `dryRun`
 */
export async function prune(request: PruneRequest): Promise<Pruned[]> {
  await awaitMaking(request)
  const swaps = await carryOut(request, await cutOffSwaps(request))
  const works = [
    ...(await cutOffPromotions(request)),
    ...(await findLeftovers(request)),
    ...(await olds(request)),
  ]
  // Seeds after guests: while a guest has one in its drive, it is in use. A claim last: whoever is killed here leaves
  // it, and by it a run that builds nothing knows that there is something to settle.
  const turn = ({ kind }: Work) => (kind === 'claim' ? 2 : kind === 'seed' ? 1 : 0)
  works.sort((a, b) => turn(a) - turn(b))
  return [...swaps, ...(await carryOut(request, works))]
}

async function carryOut(
  { place, dryRun, signal, emit }: PruneRequest,
  works: readonly Work[],
): Promise<Pruned[]> {
  const pruned: Pruned[] = []
  for (const { work, ...what } of works) {
    try {
      const spared = what.spared ?? (dryRun ? undefined : await work())
      pruned.push({ ...what, ...(spared !== undefined && { spared }) })
    } catch (error) {
      signal.throwIfAborted()
      emit({
        type: 'leak',
        image: what.image,
        resource: `${what.kind} ${what.id}`,
        why: asImagebuildError(error).message,
        next: `look at it on ${place.node}, and run \`imagebuild prune\` again`,
      })
    }
  }
  return pruned
}

/** Fixed VMIDs that something was on its way to. */
async function cutOffSwaps(request: PruneRequest): Promise<Work[]> {
  const { pve, place } = request
  return (await allRemains(request)).map(({ image, fixed, source, standins }) => ({
    kind: 'swap',
    id: `VMID ${fixed}`,
    image,
    why:
      source === undefined
        ? 'nothing is on its way to it any more'
        : `${source.marks.version} was on its way to it`,
    work: async () => {
      await pve.requirePrivileges(swapPrivileges(place))
      const known = source ?? standins[0]
      const { tool = '' } = (known && (await readNote(pve, known))) ?? {}
      try {
        await finishSwaps({ ...request, image }, { tool, wait: false })
        return undefined
      } catch (error) {
        if (error instanceof ImageHeld) return `${error.holder.who} works on it`
        throw error
      }
    },
  }))
}

async function cutOffPromotions({ pve, place, namespace }: PruneRequest): Promise<Work[]> {
  const templates = await nodeTemplates(pve, place.node, namespace)
  return untidy(templates).map(({ template, state }) => {
    const { image } = template.marks
    const current = select(templates, image)
    return {
      kind: 'promotion',
      id: guestLabel(template),
      image,
      why: `${current?.marks.version} is current, so ${template.marks.version} is ${state}`,
      work: async () => {
        const [failure] = await tidy(
          pve,
          templates.filter(({ marks }) => marks.image === image),
        )
        if (failure !== undefined) throw failure
        return undefined
      },
    }
  })
}

async function olds(request: PruneRequest): Promise<Work[]> {
  const { pve, place, namespace, keep } = request
  const templates = await nodeTemplates(pve, place.node, namespace)
  const works: Work[] = []
  for (const image of [...new Set(templates.map(({ marks }) => marks.image))].sort()) {
    const count = keep(image)
    if (count === undefined) continue
    for (const old of await oldVersions(request, { namespace, image, keep: count })) {
      const { template, why, spared } = old
      works.push({
        kind: 'version',
        id: guestLabel(template),
        image,
        why: `${template.marks.version} is ${why}`,
        ...(spared !== undefined && { spared }),
        work: () => settleOld(request, old),
      })
    }
  }
  return works
}
