import {
  type ImageState,
  judgeReasons,
  type StaleAction,
  type StaleReason,
  staleByAge,
  staleReasons,
} from '../plan/staleness.ts'
import type { BuildRequest } from './context.ts'
import { type Foresight, foreseen, type Survey, survey } from './foresee.ts'
import type { Recorded } from './recorded-packages.ts'
import { PACKAGES } from './records.ts'

/** Whether an image must be built anew, by what `run` would do with it and by what is known beyond its definition. */

/** A state, and the foresight that it was made from. */
export interface Judged {
  state: ImageState
  foresight: Foresight
}

export interface Circumstances {
  /** of its current templates */
  recorded: readonly Recorded[]
  /** what its suites have newer */
  updates: readonly StaleReason[]
  pauseAfter: number
  /** its parent, where that is looked at in the same run */
  parent: Judged | undefined
}

/**
 * Reads only, and takes no claim.
 * @throws ImagebuildError where it cannot be told: a source that cannot be resolved, a parent that is not there
 */
export async function staleness(request: BuildRequest, known: Circumstances): Promise<Judged> {
  const { recorded, updates, pauseAfter } = known
  const parent = known.parent?.state.action === 'nothing' ? undefined : known.parent
  const seen = await survey(request, parent?.foresight)
  const foresight = await foreseen(seen)
  const note = recorded[0]?.note
  const byRun = staleReasons(foresight.reasons, ACTIONS[foresight.action])
  const reasons = [
    ...byRun,
    ...(byRun.some(({ kind }) => kind === 'parent') ? [] : staleByParent(request, seen, parent)),
    ...staleByAge(note?.built, request.image.template.maxAge, request.pve.clock.date()),
    ...updates,
    ...unknownPackages(recorded),
  ]
  const { digest, templates } = foresight
  const isHeld = foresight.action === 'held'
  const packages = recorded[0]?.packages
  const state: ImageState = {
    image: request.image.name,
    ...judgeReasons({ reasons, digest }, { isHeld, failures: note?.failures, pauseAfter }),
    ...{ reasons, digest, templates },
    ...(note && { note }),
    ...(packages && { packages }),
  }
  return { state, foresight }
}

/** What settles the reasons that `run` has, too. To move a template to its fixed VMID is its business. */
const ACTIONS: Record<Foresight['action'], StaleAction> = {
  build: 'build',
  rebuild: 'build',
  move: 'build',
  verify: 'verify',
  nothing: 'nothing',
  held: 'build',
}

/** Its digest is the same, so `run` would leave it as it is. */
function staleByParent(
  { image: { source } }: BuildRequest,
  { decisions }: Survey,
  parent: Judged | undefined,
): StaleReason[] {
  if (source.kind !== 'image') return []
  const told = (text: string): StaleReason[] => [
    { kind: 'parent', subject: source.image, text, action: 'refresh' },
  ]
  if (parent?.state.action === 'refresh') return told(`its parent ${source.image} is built anew first`)
  const [first] = decisions
  const [now, before] = [first?.decision.record, first?.current?.note?.source]
  if (now === undefined || before === undefined || now.version === before.version) return []
  return told(`its parent ${source.image} is another one by now: ${before.version} → ${now.version}`)
}

/** Of what is not recorded nobody can say what is newer. */
function unknownPackages(recorded: readonly Recorded[]): StaleReason[] {
  const lacking = recorded.find(({ packages }) => packages === undefined)
  if (lacking === undefined) return []
  const { isRecorded, note, template, problem } = lacking
  const version = template.marks.version ?? 'its current template'
  const text = !isRecorded
    ? `an older imagebuild built ${version}, which recorded no packages: building it anew does`
    : (problem ??
      `the record of the packages in ${version} is not here, or is another one (sha256 ${note?.artifacts?.[PACKAGES]}): merge the change that brings it, or run where it was built`)
  return [{ kind: 'unknown', subject: PACKAGES, text, action: isRecorded ? 'nothing' : 'refresh' }]
}
