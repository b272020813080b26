import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { asImagebuildError, ImagebuildError } from '../../core/errors.ts'
import { createBus, type Emit } from '../../core/events.ts'
import { oneLine } from '../../core/printable.ts'
import { type Config, readConfig } from '../../definition/config.ts'
import { findConfig } from '../../definition/find.ts'
import { familiesWithout } from '../ci-families.ts'
import { openForgeFor } from '../ci-forge.ts'
import {
  carryOver,
  committedFiles,
  isListOf,
  type RecordsAt,
  repositoryOf,
  writeRecords,
} from '../ci-records.ts'
import { type CiResult, mergeResults, readResult } from '../ci-result.ts'
import { problemOf, propose, type Reviewed } from '../ci-review.ts'
import { formatOutcomes } from '../ci-run-text.ts'
import { exitCodeOf, reportOf, Telling } from '../ci-tell.ts'
import { writeGithubFiles } from '../github-files.ts'
import type { Invocation } from '../invocation.ts'
import { eventLines, print, printJson, tell } from '../output.ts'
import { plainRenderer } from '../render.ts'
import { chooseTarget } from '../target.ts'

export interface CiReportOptions {
  /** folder */
  results: string
  /** JSON of `ci plan --matrix` */
  families?: string
  /** counts where there is no result */
  target?: string
  dryRun: boolean
  json: boolean
}

/** Of several jobs' results one change, one pull request and one message. Asks no cluster. */
export async function ciReport(invocation: Invocation, options: CiReportOptions): Promise<void> {
  const config = await readConfig(await findConfig(process.cwd(), invocation.config))
  const emit = createBus(invocation.secrets, [plainRenderer(eventLines)])
  const { results, broken } = await readResults(options.results)
  // Where every job has ended without one, that is to be told, too.
  const isTold = results.size > 0 || options.families === undefined
  const merged = isTold ? mergeResults(results) : nothingOf(config, options.target)
  const absent = options.families === undefined ? [] : familiesWithout(merged, options.families)
  if (merged.namespace !== config.namespace || config.targets[merged.target] === undefined) {
    throw new ImagebuildError({
      code: 'usage',
      what: `the results are of ${merged.namespace} on ${merged.target}`,
      why: `${config.configFile} is of ${config.namespace}, with the targets ${Object.keys(config.targets).join(', ')}`,
      next: 'run it in a checkout of the project that they come from',
    })
  }
  const result = { ...merged, problems: [...broken, ...absent, ...merged.problems] }
  const at = { root: config.root, repository: repositoryOf(config.root), target: result.target }
  const { said, pullRequest, problems } = await review(invocation, emit, {
    ci: config.ci,
    at,
    result,
    ...options,
  })
  const whole: CiResult = { ...result, problems: [...result.problems, ...problems] }
  if (!options.dryRun) await new Telling(config.ci, invocation, emit).end(reportOf(whole, pullRequest))
  await writeGithubFiles(whole)
  if (options.json) printJson(whole)
  else print(formatOutcomes(whole))
  for (const problem of whole.problems) tell(`problem: ${oneLine(problem)}\n`)
  if (said !== undefined) tell(`${said}\n`)
  process.exitCode = exitCodeOf(whole)
}

/** Those that cannot be read are named, and the others count. */
async function readResults(
  folder: string,
): Promise<{ results: ReadonlyMap<string, CiResult>; broken: string[] }> {
  const found = await readdir(folder, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const names = found.filter((name) => name.endsWith('.json')).sort()
  const results = new Map<string, CiResult>()
  const broken: string[] = []
  for (const name of names) {
    try {
      results.set(name, await readResult(join(folder, name)))
    } catch (error) {
      broken.push(asImagebuildError(error).message)
    }
  }
  if (results.size === 0 && broken.length > 0)
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: 'no result can be read',
      why: broken.join('\n'),
    })
  return { results, broken }
}

function nothingOf(config: Config, target: string | undefined): CiResult {
  const now = new Date().toISOString()
  return {
    ...{ schema: 1, namespace: config.namespace, target: chooseTarget(config, target).name },
    ...{ started: now, ended: now, images: [], suites: {}, problems: [] },
  }
}

async function review(
  invocation: Invocation,
  emit: Emit,
  of: { ci: Awaited<ReturnType<typeof readConfig>>['ci']; at: RecordsAt; result: CiResult; dryRun: boolean },
): Promise<Reviewed> {
  const { at, result, dryRun } = of
  const { pullRequest } = of.ci
  const before = await committedFiles(at)
  const problems: string[] = []
  try {
    const how = { say: (message: string) => emit({ type: 'info', message }) }
    const dry = dryRun ? { dryRun: (line: string) => print(`${line}\n`) } : {}
    const open = pullRequest && (await openForgeFor(pullRequest, at.target, invocation, { ...how, ...dry }))
    const read = (path: string) => open?.forge.read(open.branch, path) ?? Promise.resolve(undefined)
    const carried = await carryOver(at, read, invocation.signal)
    for (const { image, lock, packages } of result.images) {
      if (lock === undefined) continue
      const lists = packages.filter(({ text }) => isListOf(image, text))
      if (lists.length < packages.length)
        problems.push(`a list of packages of ${image} is none, and is left out`)
      await writeRecords(at, image, { lock, lists, suites: result.suites }, invocation.signal)
    }
    const reviewed = open && (await propose(open, result, { at, before, carried }))
    return { ...reviewed, problems: [...problems, ...(reviewed?.problems ?? [])] }
  } catch (error) {
    invocation.signal.throwIfAborted()
    return { problems: [...problems, problemOf(error)] }
  }
}
