import type { BuildRequest } from '../build/context.ts'
import { findUpdates, type UpdatesFound } from '../build/pending-updates.ts'
import { type Recorded, recordedPackages } from '../build/recorded-packages.ts'
import { type Judged, staleness } from '../build/staleness.ts'
import { asImagebuildError, type ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import type { Project } from '../definition/load.ts'
import type { ImageState } from '../plan/staleness.ts'
import { takeGlance } from '../pve/glance.ts'
import { parentNameOf, requestFor } from './build-request.ts'
import { cacheFolder, explainFolder } from './folders.ts'
import type { Invocation } from './invocation.ts'
import { readLockfile } from './lockfile.ts'
import { inOrder } from './schedule.ts'
import { type Connected, chooseTarget } from './target.ts'

/** What a scheduled run has to do, and why. Reads only, and downloads nothing but lists. */
export interface RebuildPlan {
  /** parents before their children */
  states: ImageState[]
  /** why the state of an image cannot be told at all, by image */
  failures: Map<string, ImagebuildError>
  /** what was asked with, by image */
  requests: Map<string, BuildRequest>
  /** dates of the suites that were read, by their names: for the lockfile */
  suites: Record<string, string>
}

/** Images that are asked about at once: most of the time is waiting for the cluster. */
const AT_ONCE = 8

const OPTIONS = {
  force: false,
  lookUpstream: true,
  noCache: false,
  onError: 'cleanup',
  verify: 'full',
} as const

export interface RebuildQuestion {
  invocation: Invocation
  project: Project
  connected: Connected
  /** as it was asked for */
  target: string | undefined
  emit: Emit
}

/** Looks at all images that are wanted. A parent that is not among them stays as it is. */
export async function planRebuilds(question: RebuildQuestion): Promise<RebuildPlan> {
  const { project, connected } = question
  const { namespace } = project
  const nodes = connected.places.map(({ node }) => node)
  const glance = await takeGlance(connected.pve, { namespace, nodes })
  const requests = await requestsFor(question)
  const releases = new Map()
  const recorded = await recordedPackages([...requests.values()], glance)
  const found = await updatesFor(requests, recorded, question)
  const failures = new Map<string, ImagebuildError>()
  const judge = async (name: string, parent: Judged | undefined): Promise<Judged | undefined> => {
    try {
      const request = { ...(requests.get(name) as BuildRequest), glance, releases }
      return await staleness(request, {
        recorded: recorded.get(name) ?? [],
        updates: found.reasons.get(name) ?? [],
        pauseAfter: project.ci.pauseAfter,
        parent,
      })
    } catch (thrown) {
      connected.signal.throwIfAborted()
      failures.set(name, asImagebuildError(explainFolder(thrown)))
      return undefined
    }
  }
  const names = [...requests.keys()]
  const order = { parallel: AT_ONCE, parentOf: (name: string) => parentNameOf(project, name) }
  const judged = await inOrder<Judged | undefined>(names, order, judge)
  const states = judged.map((one, index) => one?.state ?? untold(names[index] as string, failures))
  return { states, failures, requests, suites: found.suites }
}

/** By image, parents before their children. */
async function requestsFor(question: RebuildQuestion): Promise<Map<string, BuildRequest>> {
  const { project } = question
  const wanted = [...project.images.values()].filter(({ name }) => project.wanted.includes(name))
  const requests = wanted.map(
    async (image) => [image.name, await requestFor(image, { ...question, options: OPTIONS })] as const,
  )
  return new Map(await Promise.all(requests))
}

/** What the suites have newer than what is recorded of these images. */
export async function updatesFor(
  requests: ReadonlyMap<string, BuildRequest>,
  recorded: ReadonlyMap<string, Recorded[]>,
  { project, connected: { signal }, target: asked, emit }: RebuildQuestion,
): Promise<UpdatesFound> {
  const { mirrors, privateHosts } = chooseTarget(project, asked).target
  const images = [...requests.values()].map(({ image: { name: image, repositories } }) => ({
    ...{ image, repositories, recorded: recorded.get(image) ?? [] },
  }))
  const { suites: seen = {} } = await readLockfile(project.root)
  return await findUpdates(images, {
    ...{ ci: project.ci, mirrors, seen, now: new Date(), emit },
    context: {
      ...{ cacheDir: cacheFolder(), signal, privateHosts },
      onWarning: (message) => emit({ type: 'warning', message }),
    },
  })
}

function untold(image: string, failures: ReadonlyMap<string, ImagebuildError>): ImageState {
  const text = failures.get(image)?.message ?? ''
  const reasons = [{ kind: 'unknown', subject: image, text, action: 'nothing' } as const]
  return { image, state: 'unknown', action: 'nothing', reasons, digest: '', templates: [] }
}
