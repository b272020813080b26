import { asOfNow } from '../core/pauses.ts'
import { runsOf } from '../pve/claim.ts'
import { isStale } from '../pve/claim-judged.ts'
import { ClaimTaken, ImageHeld } from '../pve/claim-refused.ts'
import type { Pve } from '../pve/client.ts'
import { guestLabel } from '../pve/guest-ref.ts'
import type { Note } from '../pve/marks.ts'
import { nodeTemplates, type Template } from '../pve/templates.ts'
import { removeFile } from '../pve/volumes.ts'
import { claimAlone } from './claiming.ts'
import {
  ourGuests,
  removeCandidate,
  removeUnfinished,
  runsElsewhere,
  seeds,
  stillThere,
} from './leftovers.ts'
import type { PruneRequest, Work } from './prune.ts'
import type { OurGuest } from './unmarked.ts'

/** What runs have left that are gone. Each is looked at again when its turn to go comes: a run that only slept goes on. */

/** A finished candidate that was not proven waits this long for the next run of its image. */
const FORGOTTEN_DAYS = 7

/** Claims, temporary guests, failed candidates and seeds. */
export async function findLeftovers(request: PruneRequest): Promise<Work[]> {
  const { pve, place, namespace } = request
  // Before the claims: a run has its claim before it has a seed, so a seed seen now without one is nobody's.
  const stored = await seeds(pve, place, namespace)
  const guests = await ourGuests(pve, place, namespace)
  const templates = await nodeTemplates(pve, place.node, namespace)
  const { runs: living, claimed } = await runsElsewhere(pve, place, namespace)
  const works: Work[] = []
  // By its run: another one may take over a claim, or a VMID, at this moment.
  const destroy = (guest: OurGuest, run: string | undefined) => async () => {
    await removeUnfinished(request, guest, run)
    return undefined
  }
  /** A run that only slept may go on while others' things are removed. */
  const unlessBack = (image: string, run: string | undefined, work: Work['work']) => async () => {
    const runs = run === undefined ? [] : await asOfNow(() => runsOf(pve, { place, namespace, image }))
    const back = run !== undefined && runs.includes(run)
    return back ? 'its run goes on' : await work()
  }
  const add = (kind: Work['kind'], guest: OurGuest, why: string, work: Work['work']) =>
    works.push({ kind, id: guestLabel(guest), image: guest.marks.image, why, work })

  for (const claim of guests.filter(({ marks }) => marks.state === 'claim')) {
    const there = await stillThere(pve, claim)
    // Its run has just ended: what the list says of its guests is not so any more, which they are asked themselves.
    if (there === undefined) continue
    const { note } = there
    if (note !== undefined && !(await isStale(pve, { ...claim, ...there }))) {
      living.add(note.run)
      claimed.add(claim.marks.image)
    } else add('claim', claim, 'its builder is gone', () => removeClaim(request, claim, note?.run))
  }
  for (const guest of guests.filter(({ marks }) => marks.state === 'building' || marks.state === 'kept')) {
    const there = await stillThere(pve, guest)
    if (there === undefined) continue
    const run = there.note?.run
    const isKept = guest.marks.state === 'kept'
    const { expires, image } = guest.marks
    const stays = isKept ? !pve.clock.isOver(expires) && !request.kept : run !== undefined && living.has(run)
    if (run !== undefined && stays) living.add(run)
    else if (isKept) add('guest', guest, 'kept after a failure', destroy(guest, run))
    else add('guest', guest, 'no run builds it', unlessBack(image, run, destroy(guest, run)))
  }
  for (const candidate of templates.filter(({ marks }) => marks.state === 'candidate')) {
    const { image, expires } = candidate.marks
    if (claimed.has(image)) continue
    const there = await stillThere(pve, candidate)
    if (there === undefined) continue
    const { note } = there
    const isOver = pve.clock.isOver(expires) || request.kept
    if (expires === undefined ? !isForgotten(pve, candidate, note) : !isOver) continue
    const run = note?.run
    const why =
      expires === undefined
        ? `its run ended before it was proven, over ${FORGOTTEN_DAYS} days ago`
        : 'it failed, and was kept to look into'
    const work = async () => {
      if ((await runsOf(pve, { place, namespace, image })).length > 0) return 'its image is being built'
      return (await removeCandidate(request, candidate, run)) ? undefined : 'it has just been promoted'
    }
    works.push({ kind: 'candidate', id: guestLabel(candidate), image, why, work })
  }
  for (const seed of stored) {
    if (living.has(seed.run)) continue
    const { volid, run, image } = seed
    const work = unlessBack(image, run, async () => {
      await removeFile(pve, place, volid)
      return undefined
    })
    works.push({ kind: 'seed', id: volid, image, why: 'no run uses it', work })
  }
  return works
}

/** Taken over first: whoever had it and only slept finds that it is lost, or was faster, and goes on. */
async function removeClaim(
  request: PruneRequest,
  guest: OurGuest,
  run: string | undefined,
): Promise<string | undefined> {
  const { image } = guest.marks
  try {
    const { claim } = await claimAlone(request, image, request.tool)
    await using _held = claim
    // Its image may have another one, which is gone with this scope.
    if (claim.vmid !== guest.vmid) await removeUnfinished(request, guest, run)
    return undefined
  } catch (error) {
    if (error instanceof ImageHeld) return `${error.holder.who} works on it`
    if (error instanceof ClaimTaken) return 'another run has just taken it'
    throw error
  }
}

/** Nobody has proven it, and the next run, which would, has not come. */
function isForgotten({ clock }: Pve, { marks }: Template, note: Note | undefined): boolean {
  const built = Date.parse(note?.built ?? '') / 1000
  return marks.verified === undefined && clock.isOver(built + FORGOTTEN_DAYS * 24 * 3600)
}
