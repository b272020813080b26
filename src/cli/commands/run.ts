import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { buildImage } from '../../build/build.ts'
import { asImagebuildError, ImagebuildError } from '../../core/errors.ts'
import { createBus, type Emit, type RunResult, type Sink } from '../../core/events.ts'
import type { Project } from '../../definition/load.ts'
import type { ImageSpec } from '../../definition/spec.ts'
import { thisOwner } from '../../pve/owner.ts'
import { renderFailure } from '../failure.ts'
import { buildFolder, cacheFolder, explainFolder, reportsFolder } from '../folders.ts'
import type { Invocation } from '../invocation.ts'
import { openProject } from '../project.ts'
import { formatResult, jsonRenderer, logFile, plainRenderer, TerminalRenderer } from '../render.ts'
import { type Connected, chooseTarget, connectTarget } from '../target.ts'

export interface RunOptions {
  target?: string
  all: boolean
  force: boolean
  cache: boolean
  onError: 'cleanup' | 'keep'
  verify: 'full' | 'off'
  json: boolean
}

/** Builds the images one after the other, parents before their children. */
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
  const images = [...project.images.keys()].filter((name) => options.all || names.includes(name))
  const logPath = join(
    buildFolder(project.root),
    'logs',
    `${new Date().toISOString().replaceAll(':', '')}-${images[0]}.log`,
  )
  const log = logFile(logPath)
  const terminal = !options.json && process.stderr.isTTY ? new TerminalRenderer(process.stderr) : undefined
  const screen: Sink = options.json
    ? jsonRenderer(process.stdout)
    : (terminal?.sink ?? plainRenderer(process.stderr))
  const emit = createBus(invocation.secrets, [log, screen])
  invocation.say = (message) => emit({ type: 'info', message })
  const results: RunResult[] = []
  try {
    emit({ type: 'run.start', images, target })
    for (const image of images) results.push(await runOne(invocation, project, image, options, emit, results))
    emit({ type: 'run.end', schema: 1, results })
  } finally {
    terminal?.[Symbol.dispose]()
    await log.close()
  }
  report(invocation, results, options, logPath)
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
      createBus(invocation.secrets, [jsonRenderer(process.stdout)])({ type: 'run.end', schema: 1, results })
    }
    throw thrown
  }
}

async function runOne(
  invocation: Invocation,
  project: Project,
  name: string,
  options: RunOptions,
  emit: Emit,
  before: readonly RunResult[],
): Promise<RunResult> {
  const started = performance.now()
  const image = project.images.get(name)
  if (image === undefined) throw new TypeError(`${name} was not loaded`)
  let result: RunResult
  let connected: Connected | undefined
  try {
    invocation.signal.throwIfAborted()
    const parent = image.source.kind === 'image' ? image.source.image : undefined
    if (before.some((done) => done.image === parent && done.status === 'failed')) {
      throw new ImagebuildError({
        code: 'build_failed',
        what: `${name} was skipped`,
        why: `its parent ${parent} failed`,
        where: image.source.where,
      })
    }
    connected = await connectTarget(invocation, project, options.target, emit)
    result = await buildImage({
      image,
      ancestors: ancestorsOf(image, project),
      ...connected,
      namespace: project.namespace,
      options: {
        force: options.force,
        noCache: !options.cache,
        onError: options.onError,
        verify: options.verify,
      },
      secrets: invocation.secrets,
      emit,
      signal: invocation.signal,
      cacheDir: cacheFolder(),
      keptDir: join(buildFolder(project.root), 'kept'),
      reportsDir: reportsFolder(project.root, connected.place.target),
      owner: await thisOwner(),
      tool: invocation.version,
    })
  } catch (thrown) {
    const error = asImagebuildError(
      invocation.signal.aborted ? invocation.signal.reason : explainFolder(thrown),
    )
    failures.set(name, error)
    const seconds = (performance.now() - started) / 1000
    result = { image: name, status: 'failed', held: false, templates: [], seconds, error: error.toJSON() }
  } finally {
    await connected?.[Symbol.asyncDispose]()
  }
  emit({ type: 'image.end', image: name, result })
  return result
}

function ancestorsOf({ source }: ImageSpec, project: Project): ImageSpec[] {
  const parent = source.kind === 'image' ? project.images.get(source.image) : undefined
  return parent === undefined ? [] : [parent, ...ancestorsOf(parent, project)]
}

/** Errors as they were thrown, for the report to people: results carry their JSON form only. */
const failures = new Map<string, ImagebuildError>()

function report(
  invocation: Invocation,
  results: readonly RunResult[],
  options: RunOptions,
  logPath: string,
): void {
  const told = new Set<string>()
  for (const result of results) {
    const failure = failures.get(result.image)
    if (failure !== undefined) {
      process.exitCode ||= failure.exitCode
      // One Ctrl-C ends many images.
      const text = renderFailure(failure, invocation)
      if (!told.has(text)) process.stderr.write(invocation.secrets.redact(text))
      told.add(text)
      if (existsSync(logPath)) process.stderr.write(`  the whole log: ${logPath}\n`)
    }
    if (!options.json) process.stdout.write(`${formatResult(result)}\n`)
  }
  const built = results.find(({ status }) => status === 'built')
  if (built !== undefined && !options.json)
    process.stderr.write(
      `next: imagebuild show ${built.image}, or clone it by the ID that \`imagebuild resolve ${built.image}\` prints\n`,
    )
}
