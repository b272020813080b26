import { buildImage } from '../build/build.ts'
import type { BuildRequest } from '../build/context.ts'
import { buildWhenFree } from '../build/wait.ts'
import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { Emit, RunResult } from '../core/events.ts'
import type { Project } from '../definition/load.ts'
import type { ImageSpec } from '../definition/spec.ts'
import { requestFor } from './build-request.ts'
import { failureAsJson } from './failure.ts'
import { explainFolder } from './folders.ts'
import type { Invocation } from './invocation.ts'
import { LabEnded } from './lab-end.ts'
import { lockCurrent } from './locking.ts'
import { type Connected, connectTarget, onTarget } from './target.ts'

/** What all images of one run have in common. */
export interface Lane {
  invocation: Invocation
  project: Project
  /** as it was asked for */
  target: string | undefined
  /** wait where somebody else builds an image */
  wait: boolean
  emit: Emit
  /** errors as they were thrown, for the report to people: results carry their JSON form only */
  failures: Map<string, ImagebuildError>
  /** dates of the indexes by which it was decided what to build, for the lockfile */
  suites?: Readonly<Record<string, string>>
}

export interface Connection extends AsyncDisposable {
  get(): Promise<Connected>
}

/** One connection for all images, made by the first that needs it. Where it fails, each image fails by it. */
export function connectOnce({ invocation, project, target, emit }: Lane): Connection {
  let made: Promise<Connected> | undefined
  return {
    get: () => {
      made ??= connectTarget(invocation, project, target, emit)
      return made
    },
    [Symbol.asyncDispose]: async () => {
      const connected = await made?.catch(() => undefined)
      await connected?.[Symbol.asyncDispose]()
    },
  }
}

/** Builds one image, and writes down what is current then. A failure is a result, too. */
export async function runOne(
  lane: Lane,
  connected: () => Promise<Connected>,
  name: string,
  { options, parent }: { options: BuildRequest['options']; parent: RunResult | undefined },
): Promise<RunResult> {
  const { invocation, project, target, emit } = lane
  const started = performance.now()
  const image = specOf(project, name)
  let result: RunResult
  try {
    invocation.signal.throwIfAborted()
    if (parent?.status === 'failed') throw new ParentFailed(image, parent.image, target)
    const request = await requestFor(image, { ...lane, connected: await connected(), options })
    const { suites } = lane
    const at = { ...request, target: request.place.target, ...(suites && { suites }) }
    const writeDown = (current: RunResult['templates']) => lockCurrent(at, image, current)
    const build = lane.wait ? buildWhenFree : buildImage
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

/** An image that nothing was done about. */
export class ParentFailed extends ImagebuildError {
  constructor({ name, source }: ImageSpec, parent: string, target: string | undefined) {
    super({
      code: 'build_failed',
      what: `${name} was skipped`,
      why: `its parent ${parent} failed`,
      where: source.where,
      next: `imagebuild run ${parent} ${name}${onTarget(target)}, once what it failed by is mended`,
    })
  }
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

export function specOf(project: Project, name: string): ImageSpec {
  const image = project.images.get(name)
  if (image === undefined) throw new TypeError(`${name} was not loaded`)
  return image
}
