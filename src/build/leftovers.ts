import { asImagebuildError } from '../core/errors.ts'
import type { GuestConfig } from '../pve/answers.ts'
import type { Claim } from '../pve/claim-held.ts'
import type { Pve } from '../pve/client.ts'
import { configIfThere, destroyGuest, isMissing } from '../pve/destroy.ts'
import { clusterGuests, type GuestRef, guestLabel, nodeGuests } from '../pve/guest-ref.ts'
import { mark } from '../pve/marking.ts'
import { fromTags, type Note, parseNote } from '../pve/marks.ts'
import type { Place } from '../pve/place.ts'
import { parseSeedName, type SeedName } from '../pve/seeds.ts'
import { nodeTemplates, readNote, select, type Template } from '../pve/templates.ts'
import { filenameOf, listFiles, removeFile } from '../pve/volumes.ts'
import { removeArchive } from './archive.ts'
import type { Build } from './context.ts'
import { tellNeverFinished } from './locked-guests.ts'
import { isMended } from './refresh.ts'
import { type OurGuest, unmarkedClones } from './unmarked.ts'

/** What interrupted runs leave behind, and how it goes. Only what bears our marks is ever looked at. */

export async function ourGuests(pve: Pve, place: Place, namespace: string): Promise<OurGuest[]> {
  const { node } = place
  const rows = await nodeGuests(pve, node)
  const marked = rows.flatMap(({ kind, vmid, tags }) => {
    const marks = fromTags(vmid, tags)
    // What is marked for a fixed VMID, a rollback may be working on: swaps settle it themselves.
    const isOurs = marks?.namespace === namespace && marks.swap === undefined
    return isOurs ? [{ kind, node, vmid, marks }] : []
  })
  return [...marked, ...(await unmarkedClones(pve, place, namespace, rows))]
}

/** VMID of a kept guest of this image on this node. */
export async function keptGuest(
  pve: Pve,
  place: Place,
  namespace: string,
  image: string,
): Promise<number | undefined> {
  const guests = await ourGuests(pve, place, namespace)
  return guests.find(({ marks }) => marks.state === 'kept' && marks.image === image)?.vmid
}

/** What has a digest already, on one node. */
export interface Found {
  current?: Template
  candidate?: Template
}

/**
 * Called under the claim, so whatever of this image is still marked as temporary has lost its builder.
 * @returns the current template or a finished candidate, where one has this digest already
 */
export async function removeLeftovers(build: Build, claim: Claim, digest: string): Promise<Found> {
  const { pve, place, namespace, image, emit } = build
  const templates = (await nodeTemplates(pve, place.node, namespace)).filter(
    ({ marks }) => marks.image === image.name,
  )
  const current = select(templates, image.name)
  const found: Found = {}
  if (current !== undefined && (await isWanted(build, current, digest))) found.current = current
  // Templates last: one that still has clones, as when verifying them was cut off, cannot be removed.
  const isTemplate = (guest: OurGuest) => Number(templates.some(({ vmid }) => vmid === guest.vmid))
  const guests = (await ourGuests(pve, place, namespace)).sort((a, b) => isTemplate(a) - isTemplate(b))
  for (const guest of guests) {
    if (guest.marks.image !== image.name) continue
    const candidate = templates.find(({ vmid, marks }) => vmid === guest.vmid && marks.state === 'candidate')
    if (
      candidate !== undefined &&
      found.candidate === undefined &&
      (await isWanted(build, candidate, digest))
    ) {
      found.candidate = candidate
    } else if (guest.marks.state === 'building' || candidate !== undefined) {
      // Removing takes a while, and meanwhile others remove too: the VMID may be somebody else's by now.
      await claim.confirm()
      const there = await stillThere(pve, guest)
      if (there === undefined) continue
      const message = `removing ${guestLabel(guest)}, left by an interrupted run`
      emit({ type: 'info', image: image.name, message })
      const run = there.note?.run
      if (candidate === undefined) await removeUnfinished(build, guest, run)
      else await removeCandidate(build, candidate, run)
    }
  }
  // Its storage may be one that other nodes see too.
  const kept = new Set([
    ...(await keptRuns(pve, place, namespace)),
    ...(await runsElsewhere(pve, place, namespace)).runs,
  ])
  for (const seed of await seeds(pve, place, namespace)) {
    if (seed.image !== image.name || kept.has(seed.run)) continue
    await claim.confirm()
    await removeFile(pve, place, seed.volid)
  }
  await tellNeverFinished(build)
  return found
}

/** Whether a template is what a definition with this digest would become. */
export async function isWanted(build: Build, template: Template, digest: string): Promise<boolean> {
  const { pve, options } = build
  const note = options.force ? undefined : await readNote(pve, template)
  // One that is known to be bad must not pass because nobody looks this time.
  const isBad = typeof note?.verify === 'object' && note.verify.failed > 0
  const isCandidate = template.marks.state === 'candidate'
  if (note?.digest !== digest || (isCandidate && isBad && options.verify === 'off')) return false
  return await isMended(build, template, note)
}

/**
 * A candidate that nobody wants, whose mark says so first: who promotes it at this moment is refused, or was faster, and
 * it stays.
 * @returns false where it is no candidate any more
 */
export async function removeCandidate(
  by: Pick<Build, 'pve' | 'place' | 'signal'>,
  candidate: Template,
  run?: string,
): Promise<boolean> {
  try {
    const doomed = await mark(by.pve, candidate, ({ state }) =>
      // Building: it was written, and only the answer was lost.
      state === 'candidate' || state === 'building' ? { state: 'building' } : undefined,
    )
    if (doomed === undefined) return false
  } catch (error) {
    // Somebody else was faster.
    if (isMissing(error) || asImagebuildError(error).code === 'not_found') return true
    throw error
  }
  await removeUnfinished(by, candidate, run)
  return true
}

/** A temporary guest, and before it the archive that its note names: without the guest nobody would know of it. */
export async function removeUnfinished(
  by: Pick<Build, 'pve' | 'place' | 'signal'>,
  guest: GuestRef,
  run?: string,
): Promise<void> {
  const { pve, signal } = by
  const config = guest.kind === 'lxc' ? await configIfThere(pve, guest) : undefined
  const note = config && parseNote(guest.vmid, config.description)
  const file = run === undefined || note?.run === run ? note?.archive?.file : undefined
  if (file !== undefined && !(await isKeptArchive(by, guest, file))) await removeArchive(by, file, signal)
  await destroyGuest(pve, { ...guest, ...(run !== undefined && { run }), signal })
}

/** Whether another template of ours, also of another namespace, has this file for its archive. */
async function isKeptArchive(
  { pve, place }: Pick<Build, 'pve' | 'place'>,
  guest: GuestRef,
  file: string,
): Promise<boolean> {
  for (const row of await nodeGuests(pve, place.node)) {
    if (row.kind !== 'lxc' || !row.template || row.vmid === guest.vmid) continue
    const note = await readNote(pve, { ...row, node: place.node })
    if (note?.version !== undefined && note.archive?.file === file) return true
  }
  return false
}

export async function seeds(
  pve: Pve,
  place: Place,
  namespace: string,
): Promise<(SeedName & { volid: string })[]> {
  return (await listFiles(pve, place, 'iso')).flatMap((file) => {
    const seed = parseSeedName(filenameOf(file))
    return seed?.namespace === namespace ? [{ volid: file.volid, ...seed }] : []
  })
}

/** Runs whose failed guest somebody kept to look into. */
async function keptRuns(pve: Pve, place: Place, namespace: string): Promise<Set<string>> {
  const kept = (await ourGuests(pve, place, namespace)).filter(({ marks }) => marks.state === 'kept')
  const runs = await Promise.all(kept.map((guest) => runOf(pve, guest)))
  return new Set(runs.filter((run) => run !== undefined))
}

async function runOf(pve: Pve, guest: OurGuest): Promise<string | undefined> {
  return (await stillThere(pve, guest))?.note?.run
}

/** Its note, where it is still what a list has said; undefined where it is gone, or something else by now. */
export async function stillThere(
  pve: Pve,
  { marks, ...guest }: OurGuest,
): Promise<{ note: Note | undefined; config: GuestConfig } | undefined> {
  const config = await configIfThere(pve, guest)
  if (config === undefined) return undefined
  const now = fromTags(guest.vmid, config.tags)
  const note = parseNote(guest.vmid, config.description)
  const isSame =
    now === undefined
      ? note?.namespace === marks.namespace && note.image === marks.image && note.version === undefined
      : now.namespace === marks.namespace &&
        now.image === marks.image &&
        now.state === marks.state &&
        now.version === marks.version
  return isSame ? { note, config } : undefined
}

/**
 * Runs that build on other nodes, and the images that they build: their seeds may lie on a storage that this node shares,
 * and they may work here too.
 */
export async function runsElsewhere(
  pve: Pve,
  place: Place,
  namespace: string,
): Promise<{ runs: Set<string>; claimed: Set<string> }> {
  const { node, vmids } = place
  const runs = new Set<string>()
  const claimed = new Set<string>()
  for (const row of await clusterGuests(pve)) {
    if (row.node === node) continue
    // The cluster's list lags: of a claim of a moment ago it may not have the tags yet.
    const isClaim = row.vmid >= vmids.claims.first && row.vmid <= vmids.claims.last
    const state = fromTags(row.vmid, row.tags)?.state
    if (!isClaim && state !== 'claim' && state !== 'kept') continue
    const config = await configIfThere(pve, row)
    const marks = fromTags(row.vmid, config?.tags)
    if (marks?.namespace !== namespace || (marks.state !== 'claim' && marks.state !== 'kept')) continue
    const run = parseNote(row.vmid, config?.description)?.run
    if (run !== undefined) runs.add(run)
    if (marks.state === 'claim') claimed.add(marks.image)
  }
  return { runs, claimed }
}
