import { asImagebuildError, ImagebuildError } from '../../core/errors.ts'
import { createBus, type RunResult } from '../../core/events.ts'
import type { Project } from '../../definition/load.ts'
import { parentNameOf } from '../build-request.ts'
import type { Invocation } from '../invocation.ts'
import { connectOnce, type Lane, runOne } from '../lane.ts'
import { eventJson, print, tell, tellStyled } from '../output.ts'
import { openProject } from '../project.ts'
import { formatResult, jsonRenderer } from '../render.ts'
import { tellFailures, tellFailuresAgain } from '../run-failures.ts'
import { openScreen } from '../run-screen.ts'
import { inOrder } from '../schedule.ts'
import { chooseTarget, onTarget } from '../target.ts'

export interface RunOptions {
  target?: string
  all: boolean
  force: boolean
  cache: boolean
  onError: 'cleanup' | 'keep'
  verify: 'full' | 'off'
  wait: boolean
  /** images at once */
  parallel: number
  json: boolean
}

/** Builds images, parents before their children. */
export async function run(
  invocation: Invocation,
  names: readonly string[],
  options: RunOptions,
): Promise<void> {
  if (names.length === 0 && !options.all) {
    throw new ImagebuildError({
      code: 'usage',
      what: 'no image is named',
      next: 'imagebuild run <image>, or imagebuild run --all',
    })
  }
  const { project, target } = await prepare(invocation, names, options)
  const images = [...project.images.keys()].filter((name) => project.wanted.includes(name))
  const { root } = project
  const { force, cache, onError, verify, json } = options
  const screen = openScreen(invocation, { root, target, called: images[0] ?? '', json })
  const { emit } = screen
  const lane: Lane = {
    invocation,
    project,
    target: options.target,
    wait: options.wait,
    emit,
    failures: new Map(),
  }
  let results: RunResult[]
  try {
    await using connection = connectOnce(lane)
    emit({ type: 'run.start', images, target })
    const order = { parallel: options.parallel, parentOf: (name: string) => parentNameOf(project, name) }
    results = await inOrder<RunResult>(images, order, (name, parent) =>
      runOne(lane, connection.get, name, { options: { force, noCache: !cache, onError, verify }, parent }),
    )
    emit({ type: 'run.end', schema: 1, results })
  } finally {
    await screen[Symbol.asyncDispose]()
  }
  report(lane, results, options, screen.left())
  screen.tellLog(lane.failures.size > 0)
}

/** Definitions and target, before anything is built; what is wrong with them is a result too where JSON is asked for. */
async function prepare(
  invocation: Invocation,
  names: readonly string[],
  options: RunOptions,
): Promise<{ project: Project; target: string }> {
  try {
    const project = await openProject(invocation, options.all ? undefined : names)
    return { project, target: chooseTarget(project, options.target).name }
  } catch (thrown) {
    if (options.json) {
      const error = asImagebuildError(thrown).toJSON()
      const failed = { status: 'failed' as const, held: false, templates: [], seconds: 0, error }
      const results = names.map((image) => ({ image, ...failed }))
      createBus(invocation.secrets, [jsonRenderer(eventJson)])({ type: 'run.end', schema: 1, results })
    }
    throw thrown
  }
}

function report(
  { invocation, failures }: Lane,
  results: readonly RunResult[],
  options: RunOptions,
  left: string,
): void {
  const failed = results.flatMap(({ image }) => failures.get(image) ?? [])
  process.exitCode ||= failed[0]?.exitCode
  tellFailures(failed, invocation)
  if (!options.json) print(results.map((result) => `${formatResult(result)}\n`).join(''))
  tellStyled(left)
  if (!options.json) tell(whatNext(results, onTarget(options.target)))
  tellFailuresAgain(failed)
}

/** The last line of a run that has built something: what there is to clone, and what to type next. */
export function whatNext(results: readonly RunResult[], target: string): string {
  const built = results.filter(({ status }) => status === 'built')
  const places = built.flatMap(({ image, templates }) =>
    templates.map(({ vmid, node }) => `${built.length > 1 ? `${image} by ` : ''}VMID ${vmid} on ${node}`),
  )
  if (places.length === 0) return ''
  const [first] = built
  const verify = first?.verifySeconds === undefined ? '' : ' --verify'
  const next = built.length === 1 ? `show ${first?.image}${verify}${target}` : `list${target}`
  return `clone ${built.length === 1 ? 'it by ' : ''}${places.join(', ')}; next: imagebuild ${next}\n`
}
