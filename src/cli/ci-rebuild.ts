import type { BuildRequest } from '../build/context.ts'
import { packageChanges } from '../build/inventory/differences.ts'
import { type Recorded, recordedPackages } from '../build/recorded-packages.ts'
import { ChecksFailed } from '../build/verify/report.ts'
import {
  asImagebuildError,
  type ErrorCode,
  type ImagebuildError,
  type SourceLocation,
} from '../core/errors.ts'
import type { RunResult, TemplateRow } from '../core/events.ts'
import { mendsAll, unmendedOf } from '../plan/mending.ts'
import type { ImageState } from '../plan/staleness.ts'
import type { Note } from '../pve/marks.ts'
import { parentNameOf } from './build-request.ts'
import { forgetFailures, noteFailure, noteUnmended } from './ci-note.ts'
import { type RebuildPlan, type RebuildQuestion, updatesFor } from './ci-plan.ts'
import type { ImageOutcome } from './ci-result.ts'
import { type Lane, ParentFailed, runOne, specOf } from './lane.ts'
import { newest } from './lockfile.ts'
import { lockCurrent } from './locking.ts'
import { inOrder } from './schedule.ts'

/** From a plan to what has become of each image. */

/** Failures that another run, the user or the network has caused pause no image. */
const PASSING: readonly ErrorCode[] = ['busy', 'unreachable', 'interrupted', 'terminated']

/**
 * Builds, or examines, all that is stale, parents before their children; one that fails stops no other. Then writes down what
 * is current of the others, too: an earlier run may have built it where this one's files did not come from.
 */
export async function rebuildStale(
  question: RebuildQuestion,
  plan: RebuildPlan,
  { lane, parallel }: { lane: Lane; parallel: number },
): Promise<{ outcomes: ImageOutcome[]; suites: Record<string, string> }> {
  const { project, connected } = question
  const work = plan.states.filter(({ action }) => action !== 'nothing')
  const stateOf = new Map(work.map((state) => [state.image, state]))
  const order = { parallel, parentOf: (name: string) => parentNameOf(project, name) }
  const results = await inOrder<RunResult>([...stateOf.keys()], order, (name, parent) => {
    const options = optionsFor(stateOf.get(name) as ImageState, plan.requests.get(name) as BuildRequest)
    return runOne(lane, async () => connected, name, { options, parent })
  })
  const resultOf = new Map(results.map((result) => [result.image, result]))
  const recorded = await lookAgain(question, plan, [...stateOf.keys()])
  const seen = await remember(question, plan, { results, recorded, failures: lane.failures })
  const suites = newest(plan.suites, seen)
  for (const { image, templates } of plan.states) {
    const request = plan.requests.get(image)
    if (request === undefined || resultOf.get(image)?.status === 'built') continue
    const { target } = request.place
    await lockCurrent({ ...request, target, suites }, request.image, templates)
  }
  const outcomes = plan.states.map((state) => {
    const failure = lane.failures.get(state.image) ?? plan.failures.get(state.image)
    const { where } = specOf(project, state.image)
    return outcomeOf(state, {
      ...{ result: resultOf.get(state.image), recorded: recorded.get(state.image) ?? [] },
      ...{ failure, where },
    })
  })
  return { outcomes, suites }
}

function optionsFor(state: ImageState, { image, pve }: BuildRequest): BuildRequest['options'] {
  const { maxAge } = image.template
  const mends = mendsAll(state, { maxAge, now: () => pve.clock.date() })
  return {
    ...{ force: false, lookUpstream: true, noCache: false, onError: 'cleanup', verify: 'full' },
    ...(state.action === 'refresh' && { refresh: { mends } }),
  }
}

type RecordedOf = ReadonlyMap<string, readonly Recorded[]>

/** What is current by now of the images that were worked on. */
async function lookAgain(
  { connected: { signal }, emit }: RebuildQuestion,
  { requests }: RebuildPlan,
  images: readonly string[],
): Promise<RecordedOf> {
  const wanted = images.flatMap((image) => requests.get(image) ?? [])
  if (wanted.length === 0 || signal.aborted) return new Map()
  try {
    return await recordedPackages(wanted)
  } catch (error) {
    emit({
      type: 'warning',
      message: `what is current by now is not known: ${asImagebuildError(error).message}`,
    })
    return new Map()
  }
}

/**
 * What the next run must know stands in the templates' notes. That it cannot be written is said, and fails nothing.
 * @returns dates of the suites that were read
 */
async function remember(
  question: RebuildQuestion,
  { states, requests }: RebuildPlan,
  done: {
    results: readonly RunResult[]
    recorded: RecordedOf
    failures: ReadonlyMap<string, ImagebuildError>
  },
): Promise<Record<string, string>> {
  const { connected, emit } = question
  const { pve, signal } = connected
  const built = done.results.filter(({ status }) => status === 'built').map(({ image }) => image)
  const { pending, suites } = await pendingIn(question, requests, done.recorded, built)
  for (const { image, status } of done.results) {
    const state = states.find((one) => one.image === image) as ImageState
    const templates = (done.recorded.get(image) ?? []).map(({ template }) => template)
    const failure = done.failures.get(image)
    try {
      if (failure !== undefined) {
        const counts = !(failure instanceof ParentFailed) && !PASSING.includes(failure.code)
        if (counts && !signal.aborted) await noteFailure(pve, templates, state)
      } else if (status === 'built') {
        const unmended = unmendedOf(state, pending.get(image) ?? [])
        if (unmended.length > 0) await noteUnmended(pve, templates, unmended)
      } else if (state.note?.failures !== undefined) {
        await forgetFailures(pve, templates)
      }
    } catch (error) {
      const message = `what the next run should know of it is not in its note: ${asImagebuildError(error).message}`
      emit({ type: 'warning', image, message })
    }
  }
  return suites
}

/** What is newer than what was just built. Nothing is asked where nothing was built. */
async function pendingIn(
  question: RebuildQuestion,
  requests: RebuildPlan['requests'],
  recorded: RecordedOf,
  built: readonly string[],
) {
  const wanted = new Map([...requests].filter(([image]) => built.includes(image)))
  if (wanted.size === 0 || question.connected.signal.aborted) return { pending: new Map(), suites: {} }
  const fresh = new Map([...recorded].map(([image, of]) => [image, [...of]]))
  const { reasons, suites } = await updatesFor(wanted, fresh, question)
  const pending = new Map(
    [...reasons].map(([image, found]) => [image, found.flatMap(({ update }) => update ?? [])]),
  )
  return { pending, suites }
}

function outcomeOf(
  state: ImageState,
  {
    result,
    recorded,
    failure,
    where,
  }: {
    result: RunResult | undefined
    recorded: readonly Recorded[]
    failure: ImagebuildError | undefined
    /** the image's definition */
    where: SourceLocation
  },
): ImageOutcome {
  const { image, templates } = state
  const isBuilt = result?.status === 'built'
  const now = result !== undefined && failure === undefined ? result.templates : templates
  const [before, after] = [currentOf(templates), currentOf(now)]
  const waits = state.state === 'held' || state.state === 'paused' ? state.state : undefined
  // What was examined, or what another run has built meanwhile, is not stale any more.
  const isSettled = result?.status === 'unchanged'
  return {
    image,
    outcome: failure !== undefined ? 'failed' : isBuilt ? 'built' : (waits ?? 'unchanged'),
    reasons: isSettled ? [] : state.reasons.map(({ kind, text }) => `${kind}: ${text}`),
    ...(before && { before }),
    ...(after && { after }),
    packages: [],
    changes: isBuilt ? changesOf(state, recorded[0]) : [],
    ...(isBuilt && { verified: verifiedOf(recorded[0]?.note) }),
    seconds: result?.seconds ?? 0,
    ...(result?.verifySeconds !== undefined && { verifySeconds: result.verifySeconds }),
    ...(failure && { failure: failureOf(failure, where) }),
  }
}

function currentOf(templates: readonly TemplateRow[]): ImageOutcome['after'] {
  const [first] = templates
  if (first === undefined) return undefined
  const same = templates.filter(({ version }) => version === first.version)
  return { version: first.version, vmids: Object.fromEntries(same.map(({ node, vmid }) => [node, vmid])) }
}

function changesOf({ packages, reasons }: ImageState, now: Recorded | undefined): ImageOutcome['changes'] {
  if (packages === undefined || now?.packages === undefined) return []
  const mended = new Map(reasons.map(({ update }) => [update?.package ?? '', update?.cves ?? []]))
  return packageRows(packages.packages, now.packages.packages, mended)
}

/** @param mended CVE names of packages */
export function packageRows(
  before: Parameters<typeof packageChanges>[0],
  after: Parameters<typeof packageChanges>[1],
  mended: ReadonlyMap<string, string[]> = new Map(),
): ImageOutcome['changes'] {
  const { added, removed, upgraded, downgraded } = packageChanges(before, after)
  const rows: ImageOutcome['changes'] = [
    ...added.map(({ name, version }) => ({ name, after: version, cves: [] })),
    ...removed.map(({ name, version }) => ({ name, before: version, cves: [] })),
    ...upgraded.map((one) => ({ ...one, cves: mended.get(one.name.replace(/:.*/, '')) ?? [] })),
    ...downgraded.map((one) => ({ ...one, cves: [] })),
  ]
  return rows.sort((a, b) => (a.name < b.name ? -1 : 1))
}

function verifiedOf(note: Note | undefined): string {
  const verify = note?.verify
  if (typeof verify !== 'object') return 'not verified'
  const { passed, skipped, left, inside } = verify
  const unasked = skipped + left
  const how = inside === 'verified' ? 'from within' : `from outside only (within: ${inside})`
  return `${passed} checks passed${unasked > 0 ? `, ${unasked} not asked` : ''}; clones examined ${how}`
}

/** @param definition where the image is defined, for what has no line of its own */
function failureOf(
  failure: ImagebuildError,
  definition: SourceLocation | undefined,
): NonNullable<ImageOutcome['failure']> {
  const { message, exitCode, where = definition } = failure
  const check = failedCheck(failure)
  return { what: message, exitCode, ...(check !== undefined && { check }), ...(where && { where }) }
}

/** The first, where checks have failed: told otherwise on several nodes, that is the cause. */
function failedCheck(error: unknown): string | undefined {
  if (error instanceof ChecksFailed) return error.checks[0]
  return error instanceof Error ? failedCheck(error.cause) : undefined
}
