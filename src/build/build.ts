import { asImagebuildError } from '../core/errors.ts'
import type { RunResult, TemplateRow } from '../core/events.ts'
import { withDeadline } from '../core/scope.ts'
import { Turns } from '../core/turns.ts'
import { firstPackages, mayPrecede, packagesOf } from '../plan/packages-first.ts'
import { claimImage } from '../pve/claim.ts'
import type { Claim } from '../pve/claim-held.ts'
import { halfSwitched, tidy } from '../pve/promotion.ts'
import { nodeTemplates, readNote, select, type Template } from '../pve/templates.ts'
import { NoSuchPackages } from '../source/bootstrap-tree.ts'
import { bringToFixed, finishCutOff, fixedVmidOf, requireFixedVmids } from './at-fixed-vmid.ts'
import { buildOn } from './build-on.ts'
import { isStillOurs, slotOf } from './claiming.ts'
import { type Build, type BuildRequest, beginBuild, during, sourceContext } from './context.ts'
import { settleCutOff } from './cut-off.ts'
import type { Decision } from './decide.ts'
import { type Finished, finish, withCurrent } from './finish.ts'
import { type Found, removeLeftovers } from './leftovers.ts'
import { requireArchitecture } from './node-architecture.ts'
import { buildsOn, decideAll, mustBeMade, onEach, tellWhatIsThere } from './nodes.ts'
import { layerWithout } from './packages-layer.ts'
import { type PlacedSource, placeSource } from './placement.ts'
import { privilegesNeeded, requireTicketForFeatures, swapPrivileges, verifyPrivileges } from './privileges.ts'
import { isProven, prove, proveCandidate } from './prove.ts'
import { demandSecrets } from './provision.ts'
import { reasonOf } from './reason.ts'
import { describeSource } from './source.ts'
import { requireStorages } from './storages.ts'
import { tryTags } from './try-tags.ts'
import { versionFor } from './version.ts'

type Ready = NonNullable<Decision['ready']>

/**
 * Builds one image, if that is needed: on each node of the target that gets a template. The current ones are not
 * touched until all new ones are finished.
 * @throws ImagebuildError; nothing temporary is left then, or an event of type `leak` has said what
 */
export async function buildImage(request: BuildRequest): Promise<RunResult> {
  const { image, place, namespace, options, emit } = request
  const started = performance.now()
  using deadline = withDeadline(request.signal, image.build.timeout, `building ${image.name}`)
  const lost = new AbortController()
  const build = beginBuild(request, AbortSignal.any([deadline, lost.signal]))
  const seconds = () => (performance.now() - started) / 1000
  const claimIt = () =>
    claimImage(build.pve, {
      ...build,
      image: image.name,
      slot: slotOf(place, namespace, image.name),
      onLost: (why) => lost.abort(why),
    })
  const rows: TemplateRow[] = []
  try {
    const builds = await buildsOn(build)
    let swapSeconds = await finishCutOff(builds)
    const decisions = await decideAll(builds)
    const ready = decisions.flatMap((one) => one.ready ?? [])
    if (ready.length === builds.length || ready.some(({ template }) => template.marks.held)) {
      // A promotion that was cut off may have left more than one that is marked current.
      for (const { templates } of decisions) await tidy(build.pve, templates)
      const there = await bringAll(builds, standing(decisions))
      tellHalfSwitched(build, decisions)
      const wanted = builds.map((one, index) => ({ build: one, digest: decisions[index]?.plan.digest ?? '' }))
      await settleCutOff(wanted, claimIt)
      const result = unchanged(build, there.ready, seconds())
      await build.writeDown?.(result.templates)
      return {
        ...result,
        ...windowOf(Math.max(swapSeconds, there.swapSeconds)),
      }
    }
    const { plan } = decisions[0] as Decision
    // The lowest: somebody may have rolled back between two decisions.
    const since = Math.min(...decisions.map((one) => one.since))

    for (const one of builds) await requireArchitecture(one.pve, image, one.place)
    await demandSecrets(image.layers, build)
    requireTicketForFeatures(build.pve, image)
    await build.pve.requirePrivileges([
      ...privilegesNeeded(image, place, build.pve.version),
      ...(options.verify === 'off' ? [] : verifyPrivileges(image, place, build.pve.version)),
      ...(builds.some((one) => fixedVmidOf(one) !== undefined) ? swapPrivileges(place) : []),
    ])
    await requireFixedVmids(builds)
    for (const one of builds) await requireStorages(one.pve, image, one.place)
    await using claim = await claimIt()
    const claimed = builds.map((one) => ({ ...one, pve: claim.guard(one.pve) }))
    emit({ type: 'image.start', image: image.name, target: place.target, digest: plan.digest })
    // Only now nobody else changes this image: what another run finished, or left behind, is settled first.
    const found = new Map<Build, Found>()
    for (const one of claimed) found.set(one, await removeLeftovers(one, claim, plan.digest))
    tellWhatIsThere(claimed, found)
    if (claimed.some((one) => mustBeMade(one, found))) await tryTags(claim, image)
    const version = await versionFor(claimed, found)
    // One after the other: what the first has fetched or made, the next finds.
    const placing = new Turns()
    const results = await onEach(claimed, async (one) => {
      try {
        const decided = decisions[claimed.indexOf(one)] as Decision
        const place = () => placing.take(() => placed(one, decided))
        return await settle(one, claim, found.get(one) ?? {}, { ...decided, version, place })
      } catch (error) {
        // Where another run has the image, that is the reason: its signal says so from here on.
        if (!one.signal.aborted) await isStillOurs(claim)
        throw reasonOf(one, error)
      }
    })
    let held = false
    for (const { node, template, isNew } of results) {
      const done: Finished = isNew
        ? await finish(node, claim, template, since)
        : await stay(node, template, claim)
      held ||= done.held
      swapSeconds = Math.max(swapSeconds, done.swapSeconds ?? 0)
      rows.push(templateRow(done.template, done.digest ?? plan.digest))
    }
    await writeDown(build, claim, rows)
    const status = results.some(({ isNew }) => isNew) ? 'built' : 'unchanged'
    const verifySeconds = Math.max(...results.map((one) => one.verifySeconds ?? 0))
    return {
      ...resultOf(image.name, status, rows, held, seconds()),
      ...(verifySeconds > 0 && { verifySeconds }),
      ...windowOf(swapSeconds),
    }
  } catch (error) {
    throw withCurrent(reasonOf(build, error), rows)
  }
}

/** Only while nobody else may build the image. What is current is so all the same. */
async function writeDown(build: Build, claim: Claim, rows: TemplateRow[]): Promise<void> {
  try {
    await claim.confirm()
  } catch (error) {
    build.signal.throwIfAborted()
    const message = `what is current is not written down: ${asImagebuildError(error).message}`
    build.emit({ type: 'warning', image: build.image.name, message })
    return
  }
  await build.writeDown?.(rows)
}

function placed(build: Build, { decision, plan }: Decision): Promise<PlacedSource> {
  const layers = firstPackages(plan.layers)
  const isFree = build.image.cloudInit.every(({ config }) => mayPrecede(config))
  return during(build, 'source', describeSource(decision), async () => {
    try {
      return await placeSource(build, decision, sourceContext(build), isFree ? packagesOf(layers) : [])
    } catch (error) {
      if (!(error instanceof NoSuchPackages)) throw error
      throw layerWithout(layers, error.names)
    }
  })
}

/** A node's template: the current one where it is what is wanted, else a finished candidate, examined. */
async function settle(
  build: Build,
  claim: Claim,
  found: Found,
  how: Parameters<typeof buildOn>[2],
): Promise<{ node: Build; template: Template; isNew: boolean; verifySeconds: number | undefined }> {
  const { options, pve } = build
  const { plan } = how
  const isDone = async (template: Template) =>
    options.verify === 'off' || isProven(build, await readNote(pve, template), plan)
  if (!options.force && found.current !== undefined) {
    // Another run has just built it; or nobody has verified it yet, or other things than are asked for now.
    const { current: template } = found
    const verifySeconds = (await isDone(template)) ? undefined : await prove(build, claim, template, plan)
    return { node: build, template, isNew: false, verifySeconds }
  }
  const ready = options.force ? undefined : found.candidate
  const template = ready ?? (await buildOn(build, claim, how))
  const verifySeconds =
    ready !== undefined && (await isDone(ready))
      ? undefined
      : await proveCandidate(build, claim, template, plan)
  return { node: build, template, isNew: true, verifySeconds }
}

/**
 * What is current already is brought to the VMID that its definition wants by now. While the other nodes were asked, or
 * built, somebody may have made another one current.
 */
async function stay(build: Build, seen: Template, claim?: Claim): Promise<Finished> {
  const { pve, place, namespace, image } = build
  const moved = await bringToFixed(build, seen, claim === undefined ? {} : { claim })
  const now = moved?.template ?? select(await nodeTemplates(pve, place.node, namespace), image.name) ?? seen
  const isOther = now.marks.version !== seen.marks.version
  return {
    template: now,
    held: now.marks.held ?? false,
    ...(isOther && { digest: (await readNote(pve, now))?.digest ?? '' }),
    ...windowOf(moved?.seconds ?? 0),
  }
}

async function bringAll(
  builds: readonly Build[],
  ready: readonly Ready[],
): Promise<{ ready: Ready[]; swapSeconds: number }> {
  const there: Ready[] = []
  let swapSeconds = 0
  for (const one of ready) {
    const build = builds.find(({ place }) => place.node === one.template.node)
    const done = build && (await stay(build, one.template))
    there.push({ template: done?.template ?? one.template, digest: done?.digest ?? one.digest })
    swapSeconds = Math.max(swapSeconds, done?.swapSeconds ?? 0)
  }
  return { ready: there, swapSeconds }
}

/** What counts on each node; not all of it need be what is wanted, after a rollback that was cut off between two. */
function standing(decisions: readonly Decision[]): Ready[] {
  return decisions.flatMap(({ ready, current }) => {
    if (ready !== undefined || current === undefined) return ready ?? []
    return { template: current.template, digest: current.note?.digest ?? '' }
  })
}

function tellHalfSwitched({ image: { name: image }, emit }: Build, decisions: readonly Decision[]): void {
  const version = halfSwitched(
    decisions.flatMap(({ templates }) => templates),
    image,
  )
  if (version === undefined) return
  const message = `not all nodes have ${version} as current: making it so was cut off. \`imagebuild history ${image}\` shows where, \`imagebuild promote ${image}@${version}\` finishes it`
  emit({ type: 'warning', image, message })
}

function windowOf(swapSeconds: number): { swapSeconds?: number } {
  return swapSeconds > 0 ? { swapSeconds } : {}
}

function unchanged({ image }: Build, ready: readonly Ready[], seconds: number): RunResult {
  const rows = ready.map(({ template, digest }) => templateRow(template, digest))
  const held = ready.some(({ template }) => template.marks.held)
  return resultOf(image.name, 'unchanged', rows, held, seconds)
}

function resultOf(
  image: string,
  status: 'built' | 'unchanged',
  templates: TemplateRow[],
  held: boolean,
  seconds: number,
): RunResult {
  const [template] = templates
  return { image, status, held, templates, ...(template && { template }), seconds }
}

export function templateRow(template: Template, digest: string): TemplateRow {
  const { node, vmid, name, marks } = template
  return { node, vmid, name, version: marks.version ?? '', digest }
}
