import type { TemplateRow } from '../core/events.ts'
import { explainRebuild } from '../plan/explain.ts'
import { sourceRequest } from '../plan/plan.ts'
import type { Reason } from '../plan/reason.ts'
import { type PlanRecord, placeIn, recordPlan } from '../plan/record.ts'
import type { Note } from '../pve/marks.ts'
import type { Template } from '../pve/templates.ts'
import { fixedVmidOf } from './at-fixed-vmid.ts'
import { type Build, type BuildRequest, beginBuild } from './context.ts'
import type { Decision } from './decide.ts'
import { isWanted } from './leftovers.ts'
import { buildsOn, decideAll } from './nodes.ts'
import { PLAN, readRecord } from './records.ts'
import type { SourceDecision } from './source.ts'

/** What `run` would do with one image, and why. Reads only, and takes no claim. Places are relative to the project. */
export interface Foresight {
  image: string
  /**
   * verify: a template is there already, and becomes current if its clones are good. move: the current one gets the VMID
   * that its definition fixes
   */
  action: 'build' | 'rebuild' | 'verify' | 'move' | 'nothing' | 'held'
  reasons: Reason[]
  /** what counts now, on each node that has one */
  templates: TemplateRow[]
  /** of the present definition */
  digest: string
  /** of the template that will count afterwards: what an image that is built upon this one starts from */
  after: string
}

/** An image as it is on each node that it is built on: what foresight is made of. */
export interface Survey {
  build: Build
  /** one for each of `decisions` */
  builds: Build[]
  decisions: Decision[]
}

/**
 * @param parent of the image, where that is built before it in the same run
 * @throws ImagebuildError where it cannot be told: a source that cannot be resolved, a parent that is not there
 */
export async function survey(request: BuildRequest, parent?: Foresight): Promise<Survey> {
  const build = beginBuild(request, request.signal)
  const builds = await buildsOn(build)
  return { build, builds, decisions: await decideAll(builds, parent && sourceAfter(build, parent)) }
}

/** @throws ImagebuildError as `survey` does */
export async function foresee(request: BuildRequest, parent?: Foresight): Promise<Foresight> {
  return await foreseen(await survey(request, parent))
}

export async function foreseen({ build, builds, decisions }: Survey): Promise<Foresight> {
  const [first] = decisions
  if (first === undefined) throw new TypeError(`${build.image.name} is built nowhere`)
  const { plan } = first
  const now = () => recordPlan(plan, { ...build, version: '', source: first.decision.record })
  const templates = decisions.flatMap(({ current }) => (current ? [rowOf(current)] : []))
  const held = decisions.find(({ ready }) => ready?.template.marks.held)?.ready
  const told = (action: Foresight['action'], reasons: Reason[]): Foresight => ({
    image: build.image.name,
    action,
    reasons,
    templates,
    digest: plan.digest,
    after: action === 'held' ? (held?.digest ?? '') : plan.digest,
  })
  const lacking = decisions.flatMap(({ current, templates: there }, index) =>
    current?.note?.digest === plan.digest ? [] : [{ current, there, build: builds[index] ?? build }],
  )
  const reasons = await explainAll(lacking, now)
  if (held !== undefined) return told('held', [whyHeld(build, held.template), ...reasons])
  if (decisions.every(({ ready }) => ready)) {
    const moves = builds.flatMap((one, index) => whyMove(one, decisions[index]?.current?.template))
    return moves.length === 0 ? told('nothing', []) : told('move', moves)
  }

  const waiting = await Promise.all(lacking.map((one) => waitingCandidate(one, plan.digest)))
  const [candidate] = waiting
  if (candidate !== undefined && !waiting.includes(undefined))
    return told('verify', [whyWaiting(candidate), ...reasons])
  if (lacking.length > 0) return told(templates.length === 0 ? 'build' : 'rebuild', reasons)
  const unproven = decisions.find(({ ready }) => ready === undefined)?.current?.note
  return told('verify', [whyVerify(unproven, now())])
}

/** The parent's template will be made of its present definition: that is all of its identity. */
function sourceAfter({ image }: Build, { action, after, templates }: Foresight): SourceDecision | undefined {
  const isThere = templates.length > 0 && templates.every(({ digest }) => digest === after)
  // On some nodes it may be built yet, though what there is on the others is that already.
  if (isThere && action !== 'build' && action !== 'rebuild') return undefined
  const request = sourceRequest(image.source)
  return {
    record: { request, identity: after, version: '', fallback: false },
    from: { kind: 'unavailable', why: new Error('its parent is not built yet') },
  }
}

/** Of each node that lacks it; the same reason on several is told once. */
async function explainAll(
  lacking: readonly { current: Decision['current']; build: Build }[],
  recorded: () => PlanRecord,
): Promise<Reason[]> {
  const reasons: Reason[] = []
  for (const { current, build } of lacking) {
    const { image, place, places = [], root } = build
    if (current === undefined) {
      const where = places.length > 1 ? ` on ${place.node}` : ''
      reasons.push({ kind: 'new', subject: place.node, text: `there is no current template${where}` })
      continue
    }
    const note: Partial<Note> = current.note ?? {}
    const record = await recordOf(build, note)
    reasons.push(
      ...explainRebuild({ note, ...(record && { record }) }, recorded(), {
        image: placeIn(root, image.where),
        source: placeIn(root, image.source.where),
      }),
    )
    // What changed outside is in the note.
    if (record === undefined && reasons.some(({ kind }) => kind !== 'source' && kind !== 'parent'))
      reasons.push(notHere(note))
  }
  return [...new Map(reasons.map((reason) => [reason.text, reason])).values()]
}

/** What the template was made of, as whoever built it has written down. */
async function recordOf(
  { reportsDir, image, place }: Build,
  { version = '', artifacts }: Partial<Note>,
): Promise<PlanRecord | undefined> {
  const of = { image: image.name, version, node: place.node }
  const text = await readRecord(reportsDir, of, PLAN, artifacts?.[PLAN])
  const record = text === undefined ? undefined : (JSON.parse(text) as PlanRecord)
  return record?.schema === 1 ? record : undefined
}

function notHere({ artifacts }: Partial<Note>): Reason {
  const sha256 = artifacts?.[PLAN]
  const text =
    sha256 === undefined
      ? 'an older imagebuild built it, which recorded no plan: more is not known'
      : `its record is with whoever built it, so no differences can be shown: ${PLAN}, sha256 ${sha256}`
  return { kind: 'unknown', subject: PLAN, text }
}

/** A finished candidate of this definition on this node: `run` verifies and promotes it instead of building. */
async function waitingCandidate(
  { build, there }: { build: Build; there: readonly Template[] },
  digest: string,
): Promise<Template | undefined> {
  for (const template of there) {
    if (template.marks.state !== 'candidate') continue
    if (await isWanted(build, template, digest)) return template
  }
  return undefined
}

function whyWaiting({ marks }: Template): Reason {
  const text = `${marks.version}, built from this definition, waits to be verified`
  return { kind: 'candidate', subject: 'clones', text }
}

function whyMove(build: Build, current: Template | undefined): Reason[] {
  const fixed = fixedVmidOf(build)
  if (current === undefined || fixed === undefined || current.vmid === fixed) return []
  const text = `${current.marks.version} moves from VMID ${current.vmid} to ${fixed} on ${current.node}: nothing is rebuilt`
  return [{ kind: 'vmid', subject: 'template.vmid', text }]
}

function whyHeld({ image }: Build, { marks }: Template): Reason {
  const text = `rolled back to ${marks.version}; \`imagebuild promote\` or \`imagebuild run ${image.name} --force\` ends that`
  return { kind: 'held', subject: image.name, text }
}

function whyVerify(note: Note | undefined, now: PlanRecord): Reason {
  const verify = note?.verify
  if (typeof verify !== 'object')
    return { kind: 'unverified', subject: 'clones', text: 'nobody has looked at clones of it yet' }
  if (verify.checks !== now.checks)
    return {
      kind: 'checks',
      subject: 'clones',
      text: `the checks changed since ${note?.version} was verified: nothing is rebuilt`,
    }
  return { kind: 'unverified', subject: 'clones', text: `${verify.failed} checks failed on its clones` }
}

function rowOf({ template, note }: NonNullable<Decision['current']>): TemplateRow {
  const { node, vmid, name, marks } = template
  return { node, vmid, name, version: marks.version ?? '', digest: note?.digest ?? '' }
}
