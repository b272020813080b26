import { randomUUID } from 'node:crypto'
import type { ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import type { Ci } from '../definition/ci-schema.ts'
import type { ImageReport, RunReport } from '../notify/report.ts'
import { tellEnd, tellStart } from '../notify/tell.ts'
import type { CiResult, ImageOutcome } from './ci-result.ts'
import type { Invocation } from './invocation.ts'

/** Whom a scheduled run tells, and what. */

/** Seconds that all messages together may take, also of a run that was interrupted. */
const TELLING_SECONDS = 180

export class Telling {
  readonly #ci: Ci
  readonly #run = randomUUID()
  readonly #context: { secrets: Invocation['secrets']; emit: Emit }

  constructor(ci: Ci, { secrets }: Invocation, emit: Emit) {
    this.#ci = ci
    this.#context = { secrets, emit }
  }

  async start(): Promise<void> {
    await tellStart(this.#ci, this.#run, this.#withSignal())
  }

  async end(report: RunReport): Promise<void> {
    await tellEnd(this.#ci, this.#run, report, this.#withSignal())
  }

  /** A run that came to no result. */
  async failed(
    { namespace, target, started }: Pick<CiResult, 'namespace' | 'target' | 'started'>,
    error: ImagebuildError,
  ): Promise<void> {
    const ended = new Date().toISOString()
    const problems = [error.message]
    const empty: CiResult = {
      ...{ schema: 1, namespace, target, started, ended, images: [], suites: {}, problems },
    }
    await this.end({ ...reportOf(empty), exitStatus: error.exitCode })
  }

  #withSignal() {
    return { ...this.#context, signal: AbortSignal.timeout(TELLING_SECONDS * 1000) }
  }
}

/** That of the first image that failed; 1 for any other problem. */
export function exitCodeOf({ images, problems }: Pick<CiResult, 'images' | 'problems'>): number {
  const [failed] = images.flatMap(({ failure }) => failure ?? [])
  return failed?.exitCode ?? (problems.length > 0 ? 1 : 0)
}

export function reportOf(result: CiResult, pullRequest?: string): RunReport {
  const { namespace, target, started, ended, images, problems } = result
  return {
    ...{ namespace, target, ended: new Date(ended), images: images.map(imageReport), problems },
    seconds: (new Date(ended).getTime() - new Date(started).getTime()) / 1000,
    exitStatus: exitCodeOf(result),
    ...(pullRequest !== undefined && { pullRequest }),
  }
}

function imageReport({
  image,
  outcome,
  before,
  after,
  reasons,
  seconds,
  failure,
}: ImageOutcome): ImageReport {
  return {
    ...{ image, outcome, reasons, seconds },
    ...(before && { oldVersion: before.version }),
    ...(after && { newVersion: after.version }),
    vmids: Object.entries(after?.vmids ?? {}).map(([node, vmid]) => ({ node, vmid })),
    ...(failure && {
      failure: { what: failure.what, ...(failure.check !== undefined && { check: failure.check }) },
    }),
  }
}
