import { createHash } from 'node:crypto'
import type { SourceLocation } from '../core/errors.ts'
import type { TemplateRow } from '../core/events.ts'
import type { Note } from '../pve/marks.ts'
import type { PackageList } from '../updates/package-list.ts'
import type { PendingUpdate } from '../updates/pending.ts'
import type { SecurityReason } from '../updates/vulnerability.ts'
import type { Reason } from './reason.ts'

/** Whether an image must be built anew although nobody has asked for it, and why. Pure: from facts to reasons and states. */

export type StaleKind =
  | 'definition'
  | 'source'
  | 'parent'
  | 'age'
  | 'security'
  | 'updates'
  | 'verify'
  | 'missing'
  | 'unknown'

/**
 * What is done about something stale. build: as `run` builds. refresh: built from a system of today, with all packages
 * upgraded first, whether or not the definition's digest changed. verify: its clones are examined, nothing is built.
 */
export type StaleAction = 'nothing' | 'verify' | 'build' | 'refresh'

export interface StaleReason {
  kind: StaleKind
  /** stable name of what it is about: a layer, a package, the parent, a node, a suite */
  subject: string
  /** one line for a reader, without the kind */
  text: string
  /** what settles it */
  action: StaleAction
  /** relative to the project */
  where?: SourceLocation
  /** of `security` and `updates` */
  update?: StaleUpdate
}

export interface StaleUpdate {
  package: string
  architecture: string
  installed: string
  available: string
  suite: string
  /** what it mends, as far as the distribution's data tells */
  cves: string[]
}

export interface ImageState {
  image: string
  /** held and paused wait for a person, and list their reasons all the same */
  state: 'fresh' | 'stale' | 'held' | 'paused' | 'unknown'
  /** what a scheduled run does with it */
  action: StaleAction
  reasons: StaleReason[]
  /** of the present definition; empty where it cannot be told */
  digest: string
  /** current, on each node that has one */
  templates: TemplateRow[]
  /** of the first of them */
  note?: Note
  /** the record of what is in it, where it is here and is the one that the note means */
  packages?: PackageList
}

/** What settles all of the reasons; what is more includes what is less. */
const BY_EFFORT = ['nothing', 'verify', 'build', 'refresh'] as const satisfies readonly StaleAction[]

export function judgeReasons(
  { reasons, digest }: Pick<ImageState, 'reasons' | 'digest'>,
  { isHeld, failures, pauseAfter }: { isHeld: boolean; failures: Note['failures']; pauseAfter: number },
): Pick<ImageState, 'state' | 'action'> {
  const action = BY_EFFORT[Math.max(0, ...reasons.map((reason) => BY_EFFORT.indexOf(reason.action)))]
  const waiting = (state: 'held' | 'paused') => ({ state, action: 'nothing' }) as const
  if (isHeld) return waiting('held')
  if (action === undefined || action === 'nothing')
    return { state: reasons.length === 0 ? 'fresh' : 'unknown', action: 'nothing' }
  const isSame = failures?.reasons === digestOfReasons({ reasons, digest })
  const isPaused = failures !== undefined && failures.count >= pauseAfter && isSame
  return isPaused ? waiting('paused') : { state: 'stale', action }
}

/**
 * Tells the reasons of one failure from those of the next: by what they are about, so that a still newer version of a package
 * that could not be brought in is the same reason, and so is an index that cannot be had today. A definition or a source that
 * changed meanwhile may be what mends it.
 */
export function digestOfReasons({ reasons, digest }: Pick<ImageState, 'reasons' | 'digest'>): string {
  const asked = reasons.filter(({ action }) => action !== 'nothing')
  const names = new Set(asked.map(({ kind, subject }) => `${kind} ${subject}`))
  return shortHash([digest, ...[...names].sort()].join('\n'))
}

/** Marks of updates in one note, each of 8 hex digits. */
const MOST_MARKS = 64

/** What a pending update is told by: one that is newer still is another one. */
type Pending = Pick<PendingUpdate, 'package' | 'architecture' | 'available' | 'suite'>

/**
 * Names the updates that a rebuild could not bring in, for the note of its result. Where they are too many for a note, all of
 * them together have one name.
 */
export function marksOfUnmended(updates: readonly Pending[]): string[] {
  const marks = [...new Set(updates.map(markOfUpdate))].sort()
  return marks.length > MOST_MARKS ? [markOfAll(marks)] : marks
}

/** What the last rebuild could not bring in is no reason for the next one. */
export function stillPending<Update extends Pending>(
  updates: readonly Update[],
  unmended: readonly string[],
): Update[] {
  const [all] = updates.length > MOST_MARKS ? marksOfUnmended(updates) : []
  if (all !== undefined && unmended.includes(all)) return []
  return updates.filter((update) => !unmended.includes(markOfUpdate(update)))
}

function markOfUpdate({ package: name, architecture, available, suite }: Pending): string {
  return shortHash(`${name} ${architecture} ${available} ${suite}`)
}

const markOfAll = (marks: readonly string[]) => shortHash(marks.join(' '))

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 8)
}

/** As `plan --explain` tells them; which kind of staleness each of its kinds is. */
const KINDS: Record<Exclude<Reason['kind'], 'held'>, StaleKind> = {
  new: 'missing',
  definition: 'definition',
  hardening: 'definition',
  certificates: 'definition',
  recipe: 'definition',
  vmid: 'definition',
  unknown: 'definition',
  source: 'source',
  parent: 'parent',
  checks: 'verify',
  unverified: 'verify',
  candidate: 'verify',
}

/** @param action what `run` would do about all of them together */
export function staleReasons(reasons: readonly Reason[], action: StaleAction): StaleReason[] {
  const known = reasons.filter(({ kind }) => kind !== 'unknown' && kind !== 'held')
  // That more could be told if the record were here is no reason in itself.
  const told = known.length > 0 ? known : reasons.filter(({ kind }) => kind !== 'held')
  return told.map(({ kind, subject, text, where }) => ({
    kind: KINDS[kind as Exclude<Reason['kind'], 'held'>],
    ...{ subject, text, action, ...(where && { where }) },
  }))
}

const UNITS = [
  [86_400, 'day'],
  [3600, 'hour'],
  [60, 'minute'],
] as const

/**
 * @param built ISO 8601; missing where no note says it
 * @param maxAge seconds
 */
export function staleByAge(built: string | undefined, maxAge: number | undefined, now: Date): StaleReason[] {
  if (built === undefined || maxAge === undefined) return []
  const age = (now.getTime() - new Date(built).getTime()) / 1000
  if (!(age > maxAge)) return []
  const text = `built ${inWords(age)} ago, on ${built.slice(0, 10)} (template.maxAge: ${inWords(maxAge)})`
  return [{ kind: 'age', subject: 'template.maxAge', text, action: 'refresh' }]
}

function inWords(seconds: number): string {
  const [size, unit] = UNITS.find(([length]) => seconds >= length) ?? [1, 'second']
  const count = Math.floor(seconds / size)
  return `${count} ${unit}${count === 1 ? '' : 's'}`
}

/** What `text` of one can name; the rest is counted. */
const SHOWN_CVES = 5

export function staleByUpdates(
  kind: 'security' | 'updates',
  found: readonly SecurityReason[],
): StaleReason[] {
  return found.map(({ update, vulnerabilities }): StaleReason => {
    const { package: name, architecture, installed, available, suite } = update
    const cves = vulnerabilities.map(({ id }) => id).sort()
    const more = cves.length - SHOWN_CVES
    const named = `${cves.slice(0, SHOWN_CVES).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
    const text = `${name} ${installed} → ${available} (${suite})${cves.length === 0 ? '' : `, ${named}`}`
    const told = { package: name, architecture, installed, available, suite, cves }
    return { kind, subject: name, text, action: 'refresh', update: told }
  })
}

/** A stale image whose parent is not, and all that is stale because of it: built in this order, in one place. */
export interface Family {
  /** name of the root */
  family: string
  /** parents before their children */
  images: string[]
}

/**
 * @param images those to be worked on, parents before their children
 * @param parentOf the image of ours that it is built upon
 */
export function familiesOf(
  images: readonly string[],
  parentOf: (image: string) => string | undefined,
): Family[] {
  const families = new Map<string, Family>()
  for (const image of images) {
    const family = families.get(parentOf(image) ?? '') ?? { family: image, images: [] }
    family.images.push(image)
    families.set(image, family)
  }
  return [...new Set(families.values())]
}

/** As a dynamic matrix of GitHub Actions takes it: one entry for each job. */
export function matrixOf(families: readonly Family[]): { include: { family: string; images: string }[] } {
  return { include: families.map(({ family, images }) => ({ family, images: images.join(' ') })) }
}
