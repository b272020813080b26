import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { buildImage } from '../../build/build.ts'
import { buildWhenFree } from '../../build/wait.ts'
import { asImagebuildError, ImagebuildError } from '../../core/errors.ts'
import { createBus, type Emit, type RunResult, type Sink } from '../../core/events.ts'
import type { Project } from '../../definition/load.ts'
import type { ImageSpec } from '../../definition/spec.ts'
import { parentOf, requestFor } from '../build-request.ts'
import { failureAsJson, failureInShort, renderFailure } from '../failure.ts'
import { buildFolder, explainFolder } from '../folders.ts'
import { grouped, isOnGitHub } from '../github-log.ts'
import type { Invocation } from '../invocation.ts'
import { LabEnded } from '../lab-end.ts'
import { LeftBehind } from '../left-behind.ts'
import { lockCurrent } from '../locking.ts'
import { eventJson, eventLines, print, tell, tellStyled, terminal, workflowCommands } from '../output.ts'
import { openProject } from '../project.ts'
import { formatResult, jsonRenderer, logFile, plainRenderer } from '../render.ts'
import { sayOnce } from '../say-once.ts'
import { inOrder } from '../schedule.ts'
import { Silence } from '../silence.ts'
import { StepTimes } from '../step-times.ts'
import { type Connected, chooseTarget, connectTarget, onTarget } from '../target.ts'
import { tellPauses } from '../tell-pauses.ts'
import { TerminalRenderer } from '../terminal.ts'

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
  const logPath = join(
    buildFolder(project.root),
    'logs',
    `${new Date().toISOString().replaceAll(':', '')}-${images[0]}.log`,
  )
  const log = logFile(logPath)
  const live = !options.json && terminal().isTTY ? new TerminalRenderer(terminal()) : undefined
  const times = new StepTimes(join(buildFolder(project.root), 'step-seconds.json'), target)
  const plain = plainRenderer(eventLines)
  const screenOf = live?.sink ?? (isOnGitHub() ? grouped(plain, workflowCommands) : plain)
  using silence = new Silence(sayOnce(screenOf))
  const screen: Sink = options.json ? jsonRenderer(eventJson) : silence.sink
  const left = new LeftBehind()
  const emit = createBus(invocation.secrets, [log, times.told(screen), left.sink])
  invocation.say = (message) => emit({ type: 'info', message })
  const lane: Lane = { invocation, project, options, emit, failures: new Map() }
  using _telling = tellPauses(emit)
  let results: RunResult[]
  try {
    await using connection = connectOnce(lane)
    emit({ type: 'run.start', images, target })
    const order = { parallel: options.parallel, parentOf: (name: string) => parentOf(specOf(project, name)) }
    results = await inOrder<RunResult>(images, order, (name, parent) =>
      runOne(lane, connection, name, parent),
    )
    emit({ type: 'run.end', schema: 1, results })
  } finally {
    live?.[Symbol.dispose]()
    times.save()
    await log.close()
  }
  report(lane, results, { logPath, left: left.text() })
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

/** What all images of one run have in common. */
interface Lane {
  invocation: Invocation
  project: Project
  options: RunOptions
  emit: Emit
  /** errors as they were thrown, for the report to people: results carry their JSON form only */
  failures: Map<string, ImagebuildError>
}

interface Connection extends AsyncDisposable {
  get(): Promise<Connected>
}

/** One connection for all images, made by the first that needs it. Where it fails, each image fails by it. */
function connectOnce({ invocation, project, options, emit }: Lane): Connection {
  let made: Promise<Connected> | undefined
  return {
    get: () => {
      made ??= connectTarget(invocation, project, options.target, emit)
      return made
    },
    [Symbol.asyncDispose]: async () => {
      const connected = await made?.catch(() => undefined)
      await connected?.[Symbol.asyncDispose]()
    },
  }
}

async function runOne(
  lane: Lane,
  connection: Connection,
  name: string,
  parent: RunResult | undefined,
): Promise<RunResult> {
  const { invocation, project, options, emit } = lane
  const started = performance.now()
  const image = specOf(project, name)
  let result: RunResult
  try {
    invocation.signal.throwIfAborted()
    if (parent?.status === 'failed') {
      throw new ImagebuildError({
        code: 'build_failed',
        what: `${name} was skipped`,
        why: `its parent ${parent.image} failed`,
        where: image.source.where,
        next: `imagebuild run ${parent.image} ${name}${onTarget(options.target)}, once what it failed by is mended`,
      })
    }
    const { force, cache, onError, verify } = options
    const request = await requestFor(image, {
      ...lane,
      connected: await connection.get(),
      options: { force, noCache: !cache, onError, verify },
    })
    const at = { ...request, target: request.place.target, root: project.root }
    const writeDown = (current: RunResult['templates']) => lockCurrent(at, image, current)
    const build = options.wait ? buildWhenFree : buildImage
    result = await build({ ...request, writeDown })
  } catch (thrown) {
    const error = await reasonFor(invocation, name, thrown)
    lane.failures.set(name, error)
    const seconds = (performance.now() - started) / 1000
    result = {
      image: name,
      status: 'failed',
      held: false,
      templates: [],
      seconds,
      error: failureAsJson(error, invocation.talksTo),
    }
  }
  emit({ type: 'image.end', image: name, result })
  return result
}

/** What ended the work on an image, in words for a person. */
async function reasonFor(
  { signal, explain }: Invocation,
  image: string,
  thrown: unknown,
): Promise<ImagebuildError> {
  if (signal.aborted) return asImagebuildError(signal.reason)
  const reason = (await explain?.(thrown)) ?? thrown
  return reason instanceof LabEnded
    ? reason.during(`${image} was built`)
    : asImagebuildError(explainFolder(reason))
}

function specOf(project: Project, name: string): ImageSpec {
  const image = project.images.get(name)
  if (image === undefined) throw new TypeError(`${name} was not loaded`)
  return image
}

function report(
  { invocation, options, failures }: Lane,
  results: readonly RunResult[],
  { logPath, left }: { logPath: string; left: string },
): void {
  const told = new Set<string>()
  for (const result of results) {
    const failure = failures.get(result.image)
    if (failure !== undefined) {
      process.exitCode ||= failure.exitCode
      // One Ctrl-C ends many images.
      const text = renderFailure(failure, invocation)
      if (!told.has(text)) tellStyled(text)
      told.add(text)
    }
    if (!options.json) print(`${formatResult(result)}\n`)
  }
  tellStyled(left)
  if (!options.json) tell(whatNext(results, onTarget(options.target)))
  // In the log of a CI people begin at the end.
  if (!terminal().isTTY) tell([...new Set([...failures.values()].map(failureInShort))].join(''))
  if (failures.size > 0 && existsSync(logPath)) tell(`the whole log: ${logPath}\n`)
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
