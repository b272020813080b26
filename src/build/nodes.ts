import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { imageTemplates, select } from '../pve/templates.ts'
import type { Build } from './context.ts'
import { type Decision, decide } from './decide.ts'
import type { Found } from './leftovers.ts'
import { withReason } from './reason.ts'
import type { SourceDecision } from './source.ts'

/**
 * A target with several nodes gets a template on each, built there; only where their disks lie on a storage that all of
 * them see, one serves all. They are one version: none counts before all of them are proven.
 */

/** A build for each node that needs a template of its own. */
export async function buildsOn(build: Build): Promise<Build[]> {
  const { places = [build.place], pve, namespace, image } = build
  if (places.length === 1) return [build]
  if (await isShared(build)) {
    // Where its parent's is, which it is cloned from, or its own: another order of nodes builds nothing.
    const nodes = places.map(({ node }) => node)
    const { source, name } = image
    for (const one of source.kind === 'image' ? [source.image, name] : [name]) {
      const current = select(await imageTemplates(pve, { namespace, image: one, nodes }), one)
      const place = places.find(({ node }) => node === current?.node)
      if (place !== undefined) return [{ ...build, place, shared: true }]
    }
    return [{ ...build, shared: true }]
  }
  return places.map((place, index) => ({
    ...build,
    place,
    emit: emitFrom(build.emit, place.node),
    ...(index > 0 && { beside: place.node }),
  }))
}

/** Whether the guests' disks lie on a storage that all nodes of the target see. */
async function isShared({ pve, place, places = [] }: Build): Promise<boolean> {
  const id = place.storages.disks
  const rows = await Promise.all(
    places.map(({ node }) => pve.api.nodes.$(node).storage.$get({ storage: id, enabled: true })),
  )
  return rows.every((found) => found.some(({ storage, shared }) => storage === id && Number(shared) === 1))
}

/** Says with each event of an image on which node it is. */
function emitFrom(emit: Emit, node: string): Emit {
  return (event) =>
    emit('step' in event || 'message' in event || 'resource' in event ? { ...event, node } : event)
}

/** What each node needs, decided from the same source. */
export async function decideAll(builds: readonly Build[], source?: SourceDecision): Promise<Decision[]> {
  const [first, ...others] = builds
  if (first === undefined) return []
  const decided = await decide(first, source)
  // A parent's template is a node's own; everything else is the same wherever it is built.
  const { kind } = decided.decision.from
  const common = kind === 'template' || kind === 'archive' ? undefined : decided.decision
  const rest = await Promise.all(others.map((build) => decide(build, common)))
  const other = rest.findIndex(({ plan }) => plan.digest !== decided.plan.digest)
  if (other === -1) return [decided, ...rest]
  const { image } = first
  const parent = image.source.kind === 'image' ? image.source.image : image.name
  throw new ImagebuildError({
    code: 'not_found',
    what: `the templates of ${parent} on ${first.place.node} and ${others[other]?.place.node} are not the same`,
    where: image.source.where,
    why: `${image.name} starts from them, and shall be the same on all nodes`,
    next: `imagebuild run ${parent}`,
  })
}

/**
 * Does the work on all nodes at once. One that fails stops no other: what the others finish, the next run need not
 * build again.
 * @throws ImagebuildError of the first that failed; those of the others are told as warnings
 */
export async function onEach<T>(builds: readonly Build[], work: (build: Build) => Promise<T>): Promise<T[]> {
  const settled = await Promise.allSettled(builds.map(work))
  const failures = settled.flatMap((one, index) =>
    one.status === 'rejected' ? [{ build: builds[index] as Build, error: one.reason as unknown }] : [],
  )
  const [first, ...more] = failures
  if (first === undefined) return settled.map((one) => (one as PromiseFulfilledResult<T>).value)
  if (builds.length === 1 || first.build.signal.aborted) throw first.error
  for (const { build, error } of more) {
    build.emit({ type: 'warning', image: build.image.name, message: asImagebuildError(error).message })
  }
  const failure = asImagebuildError(first.error)
  const done = builds.filter((_, index) => settled[index]?.status === 'fulfilled')
  const next = `${failure.next ?? 'run again'}${done.length === 0 ? '' : `\n${namesOf(done)} ${done.length === 1 ? 'has' : 'have'} a finished one, which waits for that: the next run builds only what is missing`}`
  throw withReason(failure.with({ what: `on ${first.build.place.node}: ${failure.what}`, next }))
}

/** Whether a template must be built on its node: what is finished there is not what is wanted. */
export function mustBeMade(build: Build, found: ReadonlyMap<Build, Found>): boolean {
  const { current, candidate } = found.get(build) ?? {}
  return build.options.force || (current === undefined && candidate === undefined)
}

/** What earlier runs have finished on some of the nodes is not made again. */
export function tellWhatIsThere(builds: readonly Build[], found: ReadonlyMap<Build, Found>): void {
  const missing = builds.filter((build) => mustBeMade(build, found))
  const there = builds.filter((build) => !missing.includes(build))
  const [build] = there
  if (build === undefined || missing.length === 0) return
  const { current, candidate } = found.get(build) ?? {}
  const version = (current ?? candidate)?.marks.version
  build.emit({
    type: 'info',
    image: build.image.name,
    message: `${version} is finished on ${namesOf(there)}: building it on ${namesOf(missing)}`,
  })
}

function namesOf(builds: readonly Build[]): string {
  return builds.map(({ place }) => place.node).join(', ')
}
