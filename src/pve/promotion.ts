import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { Pve } from './client.ts'
import { isMissing } from './destroy.ts'
import { guestLabel } from './guest-ref.ts'
import { mark } from './marking.ts'
import type { Marks, State } from './marks.ts'
import {
  byStanding,
  byVersion,
  imageTemplates,
  isCopyOf,
  isLeaving,
  select,
  type Template,
} from './templates.ts'

/**
 * Which template counts, and how that changes. One write makes a template current: the one with the highest turn. What
 * comes after is tidying, which whoever comes next finishes where it was cut off.
 */

export interface PromoteOptions {
  /** a rollback: builds do not replace it */
  held?: boolean
  /**
   * highest turn of the image when the build began that promotes its result: a rollback since then is not undone by it.
   * When missing, somebody asks for this very template
   */
  since?: number
}

export interface Promotion {
  /** what was current on that node before */
  before?: Template
  /** rolled back while the build was under way: this one stays current, and the promoted one is among the retired */
  yieldedTo?: Template
  /** tidying that failed; somebody else will */
  untidy: Error[]
}

/** Times that two who promote at the same moment outbid each other. */
const TRIES = 5

/** Makes a template the current one of its image on its node; at no moment there is none. */
export async function promote(
  pve: Pve,
  wanted: Template,
  { held = false, since }: PromoteOptions = {},
): Promise<Promotion> {
  const { namespace, image } = wanted.marks
  const near = (all: readonly Template[]) => all.filter(({ node }) => node === wanted.node)
  const look = () => imageTemplates(pve, { namespace, image, nodes: [wanted.node] })
  let all = await look()
  const before = select(all, image, 'current', wanted.node)
  const previous = before?.vmid === wanted.vmid ? undefined : before?.vmid
  for (let tries = 1; tries <= TRIES; tries += 1) {
    const hold = since === undefined ? undefined : heldSince(all, wanted, since)
    if (hold !== undefined) return await yieldTo(pve, wanted, hold)
    const turn = nextTurn(all, wanted)
    await mark(
      pve,
      wanted,
      (now) => {
        requireStaying(wanted, now)
        return { state: 'current', turn, held: held || undefined, expires: undefined, swap: undefined }
      },
      (note) => ({ ...note, ...(previous !== undefined && { previous }) }),
    )
    // Somebody may have promoted another one at the same moment, with the same turn: both look again, and one yields.
    all = await look()
    const overtaken = select(all, image, 'current', wanted.node)?.vmid !== wanted.vmid
    if (since === undefined && overtaken) continue
    const late = since === undefined ? undefined : heldSince(all, wanted, Math.max(since, turn - 1))
    if (late !== undefined) return await yieldTo(pve, wanted, late)
    return { ...(before && { before }), untidy: await tidy(pve, near(all)) }
  }
  throw new ImagebuildError({
    code: 'busy',
    what: `${image} is being promoted or rolled back by several at once`,
    next: `imagebuild history ${image}, and try again`,
  })
}

/** A rollback to another template, on whatever node, with a higher turn than this. */
function heldSince(all: readonly Template[], wanted: Template, turn: number): Template | undefined {
  return all.find(
    ({ vmid, marks }) =>
      vmid !== wanted.vmid && marks.state === 'current' && marks.held && (marks.turn ?? 0) > turn,
  )
}

/**
 * What has become current since that turn, on whatever node, but for the same version: a run that was without its claim for
 * a while must not put its own result above that.
 */
export async function overtaking(pve: Pve, wanted: Template, since: number): Promise<Template | undefined> {
  const { namespace, image, version } = wanted.marks
  const all = await imageTemplates(pve, { namespace, image, nodes: [wanted.node] })
  const others = all.filter(({ marks }) => (marks.turn ?? 0) > since && marks.version !== version)
  return others.sort(byStanding)[0]
}

/** Proven and never current: `promote` can still take it. */
async function yieldTo(pve: Pve, wanted: Template, hold: Template): Promise<Promotion> {
  await mark(pve, wanted, () => ({ state: 'retired', turn: undefined, held: undefined, expires: undefined }))
  return { yieldedTo: hold, untidy: [] }
}

/**
 * Before a fixed VMID is taken over: where somebody has rolled back since that turn, the new one is retired instead.
 * @returns what was rolled back to
 */
export async function yieldIfRolledBack(
  pve: Pve,
  wanted: Template,
  since: number,
): Promise<Template | undefined> {
  const { namespace, image } = wanted.marks
  const all = await imageTemplates(pve, { namespace, image, nodes: [wanted.node] })
  const hold = heldSince(all, wanted, since)
  if (hold !== undefined) await yieldTo(pve, wanted, hold)
  return hold
}

/** Highest turn of these templates; 0 where none has any. */
export function highestTurn(templates: readonly Template[]): number {
  return Math.max(0, ...templates.map(({ marks }) => marks.turn ?? 0))
}

/** The next turn of the image; where this version is current on another node already, the same as there. */
function nextTurn(all: readonly Template[], wanted: Template): number {
  const highest = highestTurn(all)
  const top = all.filter(({ marks }) => marks.turn === highest)
  const isAhead =
    top.length > 0 &&
    top.every(({ marks }) => marks.state === 'current' && marks.version === wanted.marks.version) &&
    top.every(({ node, vmid }) => node !== wanted.node || vmid === wanted.vmid)
  return isAhead ? highest : highest + 1
}

/**
 * Whoever removes a template says so on it first.
 * @param now the marks that it has at this moment
 * @throws ImagebuildError `not_found` where somebody is removing it
 */
export function requireStaying(template: Template, now: Marks): void {
  const isOld = isLeaving(now)
  if (!isOld && now.state !== 'building') return
  const { image, version } = template.marks
  throw new ImagebuildError({
    code: 'not_found',
    what: `${guestLabel(template)}, version ${version} of ${image}, is being removed`,
    why: isOld ? 'it is older than the versions that are kept' : 'nobody wants this candidate any more',
    next: `imagebuild history ${image} shows what there is`,
  })
}

/** What tidying has to do, by the marks alone. Stand-ins stay current until the template that they stand for is. */
export function untidy(templates: readonly Template[]): { template: Template; state: State }[] {
  const places = new Map(
    templates.map(({ node, marks }) => [`${node} ${marks.image}`, [node, marks.image] as const]),
  )
  return [...places.values()].flatMap(([node, image]) => {
    const current = select(templates, image, 'current', node)
    if (current === undefined) return []
    const previous = select(templates, image, 'previous', node)
    const others = templates.filter(
      (one) =>
        one.vmid !== current.vmid &&
        one.node === node &&
        one.marks.image === image &&
        (one.marks.state === 'current' || one.marks.state === 'previous') &&
        !isLeaving(one.marks) &&
        !isSwapped(one, templates),
    )
    return others
      .map((template) => ({
        template,
        state: template.vmid === previous?.vmid ? ('previous' as const) : ('retired' as const),
      }))
      .filter(({ template: { marks }, state }) => marks.state !== state || marks.held || marks.standin)
  })
}

/** What a swap settles itself: what it takes over, and a stand-in while there is what it stands for. */
function isSwapped(one: Template, templates: readonly Template[]): boolean {
  if (!one.marks.standin) return one.marks.swap !== undefined
  return templates.some((other) => other !== one && isCopyOf(one, other))
}

/**
 * Gives what is no longer current its marks. One that somebody has promoted meanwhile is left.
 * @returns what could not be done; it makes no difference to what is current
 */
export async function tidy(pve: Pve, templates: readonly Template[]): Promise<Error[]> {
  const failed: Error[] = []
  for (const { template, state } of untidy(templates)) {
    const isAsSeen = (now: Marks) =>
      now.state === template.marks.state && now.turn === template.marks.turn && !isLeaving(now)
    try {
      await mark(pve, template, (now) =>
        isAsSeen(now) ? { state, held: undefined, standin: undefined, swap: undefined } : undefined,
      )
    } catch (error) {
      // One that somebody has removed meanwhile needs no marks.
      const failure = asImagebuildError(error)
      if (!isMissing(error) && failure.code !== 'not_found') failed.push(failure)
    }
  }
  return failed
}

/**
 * The version that a rollback makes current: the newest that is older than the current one, and was once current or is
 * proven, on every node that has a current one. Where a rollback was cut off between two nodes, the one that it was to.
 */
export function rollbackVersion(templates: readonly Template[], image: string): string | undefined {
  const current = select(templates, image)
  if (current === undefined) return undefined
  const nodes = currentNodes(templates, image)
  const isEverywhere = (version: string) =>
    nodes.every((node) => promotable(templates, image, version, node) !== undefined)
  const cutOff = current.marks.held ? halfSwitched(templates, image) : undefined
  if (cutOff !== undefined) return cutOff
  const older = templates
    .filter((one) => one.marks.image === image && isPromotable(one.marks) && byVersion(one, current) < 0)
    .sort((a, b) => byVersion(b, a))
  return older.find(({ marks }) => isEverywhere(marks.version ?? ''))?.marks.version
}

/** Where making a version current was cut off between two nodes: that version, if all of them have it. */
export function halfSwitched(templates: readonly Template[], image: string): string | undefined {
  const to = select(templates, image)?.marks.version
  const nodes = currentNodes(templates, image)
  if (to === undefined) return undefined
  const isDone = nodes.every((node) => select(templates, image, 'current', node)?.marks.version === to)
  const isPossible = nodes.every((node) => promotable(templates, image, to, node) !== undefined)
  return !isDone && isPossible ? to : undefined
}

/** Whether `promote` may take it: it was current before, or clones of it were examined and all was well. */
export function isPromotable(marks: Marks): boolean {
  if (isLeaving(marks) || marks.version === undefined) return false
  if (marks.state === 'candidate') return marks.verified !== undefined && marks.expires === undefined
  return marks.state === 'current' || marks.state === 'previous' || marks.state === 'retired'
}

/** The template of a version on a node that can be made current. */
export function promotable(
  templates: readonly Template[],
  image: string,
  version: string,
  node: string,
): Template | undefined {
  return select(
    templates.filter(({ marks }) => isPromotable(marks)),
    image,
    version,
    node,
  )
}

/** Nodes that have a current template of the image, in the order of their names. */
export function currentNodes(templates: readonly Template[], image: string): string[] {
  const current = templates.filter(({ marks }) => marks.image === image && marks.state === 'current')
  return [...new Set(current.map(({ node }) => node))].sort()
}
