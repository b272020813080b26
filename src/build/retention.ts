import { asImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import type { GuestConfig } from '../pve/answers.ts'
import type { Claim } from '../pve/claim-held.ts'
import type { Pve } from '../pve/client.ts'
import { configIfThere, isMissing } from '../pve/destroy.ts'
import { guestLabel } from '../pve/guest-ref.ts'
import { linkedClones } from '../pve/linked-clones.ts'
import { mark } from '../pve/marking.ts'
import { fromTags, type Marks, parseNote } from '../pve/marks.ts'
import type { Place } from '../pve/place.ts'
import { byVersion, isLeaving, nodeTemplates, select, type Template } from '../pve/templates.ts'
import { removeUnfinished, stillThere } from './leftovers.ts'

/** `template.keep`: how many versions stay, and what stays all the same. */

export interface OldVersion {
  template: Template
  /** why it goes: `older than the 3 versions that are kept` */
  why: string
  /** why it stays all the same */
  spared?: string
}

interface By {
  pve: Pve
  place: Place
  signal: AbortSignal
}

/**
 * Finished versions of one image on one node beyond those that are kept, oldest first: kept are the current one, what was
 * current before it, and then the newest. A stand-in belongs to the template that it stands for.
 */
export function beyondKept(templates: readonly Template[], image: string, keep: number): Template[] {
  const finished = templates.filter(
    ({ marks }) =>
      marks.image === image &&
      !marks.standin &&
      marks.swap === undefined &&
      (marks.state === 'current' || marks.state === 'previous' || marks.state === 'retired'),
  )
  const current = select(finished, image)
  const previous = select(finished, image, 'previous')
  const rank = (template: Template) => (template === current ? 0 : template === previous ? 1 : 2)
  const staying = finished.filter(({ marks }) => !isLeaving(marks))
  const kept = staying.sort((a, b) => rank(a) - rank(b) || byVersion(b, a)).slice(0, keep)
  // Of what is marked current, tidying knows better; without a current one, nothing is known to be old.
  return finished
    .filter((one) => !kept.includes(one) && one.marks.state !== 'current' && current !== undefined)
    .sort(byVersion)
}

/** What would go of one image on one node, and what of it stays and why. Reads only. */
export async function oldVersions(
  by: Pick<By, 'pve' | 'place'>,
  { namespace, image, keep }: { namespace: string; image: string; keep: number },
): Promise<OldVersion[]> {
  const templates = await nodeTemplates(by.pve, by.place.node, namespace)
  const old: OldVersion[] = []
  for (const template of beyondKept(templates, image, keep)) {
    const config = await configIfThere(by.pve, template)
    if (config === undefined) continue
    const spared = await reasonToStay(by.pve, template, config)
    const why = `older than the ${keep === 1 ? 'version that is' : `${keep} versions that are`} kept`
    old.push({ template, why, ...(spared !== undefined && { spared }) })
  }
  return old
}

async function reasonToStay(pve: Pve, template: Template, config: GuestConfig): Promise<string | undefined> {
  const marks = fromTags(template.vmid, config.tags)
  const note = parseNote(template.vmid, config.description)
  // Tags alone may have been typed by anybody.
  if (marks === undefined || note === undefined || note.version !== marks.version)
    return 'its note is not imagebuild’s for this VMID'
  if (marks.state === 'current' || marks.held) return 'it is current'
  if (config.protection) return 'it is protected'
  const clones = await linkedClones(pve, template, config)
  if (clones.length > 0) return `it has linked clones: ${clones.map(({ label }) => label).join(', ')}`
  return undefined
}

/**
 * Removes one, with its archive where no other uses that, unless it is spared. First it says on the template that it goes:
 * who promotes it at this moment is refused, or was faster, and it stays; whoever comes after a cut continues.
 * @returns why it stays
 */
export async function settleOld(by: By, { template, spared }: OldVersion): Promise<string | undefined> {
  const { pve } = by
  const stay = () => mark(pve, template, () => ({ expires: undefined }))
  if (spared !== undefined) {
    if (isLeaving(template.marks)) await stay()
    return spared
  }
  const expires = pve.clock.after(0)
  // A swap takes what it brings to its VMID from here.
  const isAsSeen = (now: Marks) =>
    now.state !== 'current' && now.turn === template.marks.turn && now.swap === undefined
  let doomed: Marks | undefined
  try {
    doomed = await mark(pve, template, (now) => (isAsSeen(now) ? { expires } : undefined))
  } catch (error) {
    // Somebody else was faster.
    if (isMissing(error) || asImagebuildError(error).code === 'not_found') return undefined
    throw error
  }
  if (doomed === undefined) return 'it has just been promoted'
  const there = await stillThere(pve, { ...template, marks: doomed })
  if (there === undefined) return undefined
  try {
    await removeUnfinished(by, template, there.note?.run)
    return undefined
  } catch (error) {
    by.signal.throwIfAborted()
    await stay()
    const { message } = asImagebuildError(error)
    if (/still in use by linked clone/i.test(message))
      return 'it has linked clones, which these credentials may not see'
    throw error
  }
}

/**
 * After a promotion, under the image's claim: removes what is beyond `keep`. What cannot be removed now is told, and makes
 * no build fail.
 */
export async function applyRetention(
  by: By & { emit: Emit },
  claim: Claim,
  of: { namespace: string; image: string; keep: number },
): Promise<void> {
  const { emit } = by
  const { image } = of
  const tell = (message: string) => emit({ type: 'info', image, message })
  try {
    for (const old of await oldVersions(by, of)) {
      const { template, why } = old
      const name = `${guestLabel(template)}, version ${template.marks.version}`
      await claim.confirm()
      const stays = await settleOld(by, old)
      tell(stays === undefined ? `removed ${name}: ${why}` : `${name} stays, though ${why}: ${stays}`)
    }
  } catch (error) {
    by.signal.throwIfAborted()
    const { message } = asImagebuildError(error)
    const next = 'run `imagebuild prune`'
    emit({ type: 'leak', image, resource: `old versions on ${by.place.node}`, why: message, next })
  }
}
