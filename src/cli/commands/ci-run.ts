import { asImagebuildError, ImagebuildError } from '../../core/errors.ts'
import type { Emit } from '../../core/events.ts'
import { oneLine } from '../../core/printable.ts'
import type { Project } from '../../definition/load.ts'
import { asCalled } from '../called.ts'
import { type OpenForge, openForgeFor } from '../ci-forge.ts'
import { forgeToRead, takeOver } from '../ci-open-change.ts'
import { planRebuilds, type RebuildPlan, type RebuildQuestion } from '../ci-plan.ts'
import { formatStates } from '../ci-plan-text.ts'
import { rebuildStale } from '../ci-rebuild.ts'
import { committedFiles, type RecordsAt, repositoryOf } from '../ci-records.ts'
import { type CiResult, type ImageOutcome, writeResult } from '../ci-result.ts'
import { type Change, problemOf, propose } from '../ci-review.ts'
import { formatOutcomes } from '../ci-run-text.ts'
import { exitCodeOf, reportOf, Telling } from '../ci-tell.ts'
import { tellWouldSend } from '../ci-would.ts'
import { unwritten, withRecords } from '../ci-written.ts'
import { writeGithubFiles } from '../github-files.ts'
import type { Invocation } from '../invocation.ts'
import type { Lane } from '../lane.ts'
import { LOCKFILE, readLockfile, writeSuites } from '../lockfile.ts'
import { print, printJson, printStyled, tell, tellStyled } from '../output.ts'
import { openProject, tellWarnings } from '../project.ts'
import { tellFailures, tellFailuresAgain } from '../run-failures.ts'
import { openScreen } from '../run-screen.ts'
import { chooseTarget, connectTarget } from '../target.ts'

export interface CiRunOptions {
  target?: string
  all: boolean
  dryRun: boolean
  /** file for another job, which then tells the user */
  result?: string
  verify: 'full' | 'off'
  wait: boolean
  /** images at once */
  parallel: number
  json: boolean
}

/** Builds what is stale, and tells how that went. */
export async function ciRun(
  invocation: Invocation,
  names: readonly string[],
  options: CiRunOptions,
): Promise<void> {
  if (options.verify === 'off') throw unverified()
  const project = await openProject(invocation, options.all || names.length === 0 ? undefined : names)
  const { name: target } = chooseTarget(project, options.target)
  tellWarnings(project)
  const at = { root: project.root, repository: repositoryOf(project.root), target }
  const screen = openScreen(invocation, { ...at, called: 'ci', json: false })
  const telling =
    options.result === undefined && !options.dryRun
      ? new Telling(project.ci, invocation, screen.emit)
      : undefined
  const run: Run = { invocation, project, options, at, emit: screen.emit, failures: new Map() }
  const started = new Date().toISOString()
  let done: Done
  try {
    await telling?.start()
    done = await work(run, started)
    await telling?.end(reportOf(done.result, done.pullRequest))
  } catch (thrown) {
    const error = asImagebuildError(invocation.signal.aborted ? invocation.signal.reason : thrown)
    await telling?.failed({ ...project, target, started }, error)
    throw thrown
  } finally {
    await screen[Symbol.asyncDispose]()
  }
  const failed = [...run.failures.values()]
  tellFailures(failed, invocation)
  if (!options.dryRun) await writeGithubFiles(done.result)
  if (options.json) printJson(done.result)
  else if (!options.dryRun) print(formatOutcomes(done.result))
  tellStyled(screen.left())
  for (const problem of done.result.problems) tell(`problem: ${oneLine(problem)}\n`)
  if (done.said !== undefined) tell(`${done.said}\n`)
  tellFailuresAgain(failed)
  screen.tellLog(failed.length > 0)
  process.exitCode = exitCodeOf(done.result)
}

interface Run {
  invocation: Invocation
  project: Project
  options: CiRunOptions
  at: RecordsAt
  emit: Emit
  failures: Map<string, ImagebuildError>
}

interface Done {
  result: CiResult
  pullRequest?: string
  said?: string
}

async function work(run: Run, started: string): Promise<Done> {
  const { invocation, project, options, at, emit, failures } = run
  const forge = await openOwnForge(run)
  const before = await committedFiles(at)
  const { carried, problems } =
    forge === undefined ? { carried: [], problems: [] } : await takeOver(forge, run)
  await using connected = await connectTarget(invocation, project, options.target, emit)
  const question: RebuildQuestion = { invocation, project, connected, target: options.target, emit }
  const locked = (await readLockfile(at.root)).targets[at.target] ?? {}
  const plan = await planRebuilds(question)
  for (const [image, failure] of plan.failures) failures.set(image, failure)
  const outline = (images: ImageOutcome[], suites: CiResult['suites']): CiResult => ({
    ...{ schema: 1, namespace: project.namespace, target: at.target, started },
    ...{ ended: new Date().toISOString(), images, suites, problems },
  })
  if (options.dryRun) {
    printStyled(asCalled(formatStates(plan.states, at.root)))
    await tellWouldSend(project.ci, plan.states, at, invocation)
    return { result: outline([], plan.suites) }
  }
  const lane: Lane = {
    ...{ invocation, project, target: options.target, wait: options.wait },
    ...{ emit, failures, suites: plan.suites },
  }
  emit({ type: 'run.start', images: stale(plan), target: at.target })
  const { outcomes, suites } = await rebuildStale(question, plan, { lane, parallel: options.parallel })
  if (outcomes.some(({ outcome }) => outcome === 'built')) {
    const refused = await writeSuites(at.root, suites).then(() => [], whyRefused)
    problems.push(...refused)
  }
  problems.push(...refusedSuites(plan), ...(await unwritten(at, outcomes)))
  const images = await Promise.all(outcomes.map((one) => withRecords(at, one, locked)))
  const result = outline(images, suites)
  if (options.result !== undefined) {
    await writeResult(options.result, result)
    return { result }
  }
  return forge === undefined ? { result } : await review(forge, result, { at, before, carried })
}

function whyRefused(error: unknown): string[] {
  return [`${LOCKFILE} does not have when the suites were last seen: ${asImagebuildError(error).message}`]
}

function stale({ states }: RebuildPlan): string[] {
  return states.filter(({ action }) => action !== 'nothing').map(({ image }) => image)
}

/** Where the result goes to another job, that one has to reach the forge; this one reads from it, where it can. */
async function openOwnForge(run: Run): Promise<OpenForge | undefined> {
  const { invocation, project, options, at, emit } = run
  const { pullRequest } = project.ci
  if (pullRequest === undefined || options.dryRun) return undefined
  if (options.result !== undefined) return await forgeToRead(pullRequest, run)
  const say = (message: string) => emit({ type: 'info', message })
  return await openForgeFor(pullRequest, at.target, invocation, { say })
}

/** What is built is built, whatever a forge says. */
async function review(forge: OpenForge, result: CiResult, change: Change): Promise<Done> {
  const withProblems = (more: string[]) => ({ ...result, problems: [...result.problems, ...more] })
  try {
    const { problems, ...reviewed } = await propose(forge, result, change)
    return { result: withProblems(problems), ...reviewed }
  } catch (error) {
    return { result: withProblems([`${problemOf(error)}; what it was to bring is here: ${LOCKFILE}`]) }
  }
}

/** An index that is not believed, or cannot be had, makes nothing stale; but the user must know that updates are not looked for. */
function refusedSuites({ states }: RebuildPlan): string[] {
  const texts = states.flatMap(({ reasons }) =>
    reasons
      .filter(({ kind, subject }) => kind === 'unknown' && subject.includes('://'))
      .map(({ text }) => text),
  )
  return [...new Set(texts)]
}

function unverified(): ImagebuildError {
  return new ImagebuildError({
    code: 'usage',
    what: 'scheduled runs make nothing current that nobody has verified',
    why: '--verify off, or IMAGEBUILD_VERIFY=off, is set',
    next: 'leave it out; imagebuild run has it, for a person who looks',
  })
}
