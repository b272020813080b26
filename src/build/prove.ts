import { asImagebuildError, type ImagebuildError } from '../core/errors.ts'
import { withDeadline } from '../core/scope.ts'
import { digestOfChecks, type Plan } from '../plan/plan.ts'
import type { Claim } from '../pve/claim-held.ts'
import { guestLabel } from '../pve/guest-ref.ts'
import { mark, recordVerification } from '../pve/marking.ts'
import type { Note } from '../pve/marks.ts'
import type { Template } from '../pve/templates.ts'
import { isStillOurs } from './claiming.ts'
import type { Build } from './context.ts'
import { KEPT_SECONDS } from './keep.ts'
import { removeCandidate } from './leftovers.ts'
import { recordsFolder, VERIFY_REPORT, writeRecord } from './records.ts'
import { failedReport } from './verify/report.ts'
import { verify } from './verify/verify.ts'
import { waysIn } from './ways-in.ts'

/** Seconds that removing a template which failed may take, whatever happens to the run. */
const REMOVAL_SECONDS = 300

/**
 * Whether somebody has examined clones of this template with these very checks, and all was well. One that could only be
 * seen from outside is examined again where there is a way in that has not been tried.
 */
export async function isProven(
  build: Build,
  note: Note | undefined,
  { checks, certificates }: Pick<Plan, 'checks' | 'certificates'>,
): Promise<boolean> {
  const done = note?.verify
  if (typeof done !== 'object' || done.failed > 0 || done.checks !== digestOfChecks(checks)) return false
  if (done.inside === 'verified') return true
  const { tried } = await waysIn({ ...build, emit: () => undefined }, certificates)
  return tried === undefined || tried === done.tried
}

/**
 * Examines clones of a template, writes the report, and marks the template as verified.
 * @returns seconds that it took
 * @throws ImagebuildError that names each failed check
 */
export async function prove(build: Build, claim: Claim, template: Template, plan: Plan): Promise<number> {
  const started = performance.now()
  const { image, pve } = build
  const version = template.marks.version ?? ''
  const { signer, keys, tried } = await waysIn(build, plan.certificates)
  const report = await verify(build, claim, {
    template,
    image,
    ancestors: build.ancestors,
    version,
    checks: plan.checks,
    left: plan.left,
    ssh: {
      ca: plan.certificates.authorities,
      principals: plan.certificates.principals,
      keys,
      ...(signer && { signer }),
    },
  })
  const text = `${JSON.stringify(report, undefined, 2)}\n`
  const folder = recordsFolder(build.reportsDir, image.name, version, build.beside)
  const sha256 = await writeRecord(folder, VERIFY_REPORT, text)
  await recordVerification(pve, template, {
    verify: {
      at: report.at,
      ...report.summary,
      checks: digestOfChecks(plan.checks),
      ...(tried !== undefined && { tried }),
    },
    artifacts: { [VERIFY_REPORT]: sha256 },
  })
  if (report.summary.failed > 0) throw failedReport(report)
  return (performance.now() - started) / 1000
}

/**
 * The same for a candidate: one that fails never counts, and goes, unless it is to be looked into. One that could not be
 * verified now (no free address, no ssh here, a target that is away, Ctrl-C) is no worse for it: the next run verifies it.
 */
export async function proveCandidate(
  build: Build,
  claim: Claim,
  candidate: Template,
  plan: Plan,
): Promise<number | undefined> {
  if (build.options.verify === 'off') return undefined
  try {
    return await prove(build, claim, candidate, plan)
  } catch (thrown) {
    // Another run that has the image removes clones, and may have taken this candidate for its own.
    if (build.signal.aborted || !(await isStillOurs(claim))) throw thrown
    const failure = asImagebuildError(thrown)
    if (failure.code !== 'build_failed') {
      const message = `${guestLabel(candidate)}, the new template, stays as a candidate: the next run of this image verifies it`
      build.emit({ type: 'info', image: build.image.name, message })
      throw failure
    }
    if (build.options.onError === 'keep') throw await keepCandidate(build, failure, candidate)
    await discard(build, candidate)
    throw failure
  }
}

async function discard(build: Build, candidate: Template): Promise<void> {
  using signal = withDeadline(undefined, REMOVAL_SECONDS, `removing ${guestLabel(candidate)}`)
  try {
    await removeCandidate({ ...build, pve: build.pve.withSignal(signal), signal }, candidate)
  } catch (error) {
    build.emit({
      type: 'leak',
      image: build.image.name,
      resource: guestLabel(candidate),
      why: asImagebuildError(error).message,
      next: 'the next run of this image removes it',
    })
  }
}

/** For a day, or until the next run of the image, which removes it or tries again. */
async function keepCandidate(
  { pve, image, emit }: Build,
  failure: ImagebuildError,
  candidate: Template,
): Promise<ImagebuildError> {
  const expires = pve.clock.after(KEPT_SECONDS)
  try {
    await mark(pve, candidate, ({ state }) => (state === 'candidate' ? { expires } : undefined))
  } catch (error) {
    // It stays a candidate all the same. What made it fail must not be lost by it.
    const message = `${guestLabel(candidate)} is kept, but not for how long: ${asImagebuildError(error).message}`
    emit({ type: 'warning', image: image.name, message })
  }
  const name = guestLabel(candidate)
  return failure.with({
    next: `${name}, the template that failed, is kept for a day, or until the next run of this image. Look into a full clone of it: a linked one would keep it from being removed. When you are done: imagebuild prune --kept`,
  })
}
