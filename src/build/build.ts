import { ImagebuildError } from '../core/errors.ts'
import type { RunResult, TemplateRow } from '../core/events.ts'
import { DeadlineError, withDeadline } from '../core/scope.ts'
import type { ImageSpec } from '../definition/spec.ts'
import { choose } from '../plan/identity.ts'
import { makePlan, type Plan } from '../plan/plan.ts'
import { claimImage } from '../pve/claim.ts'
import { nodeTemplates, promote, readNote, select, type Template } from '../pve/templates.ts'
import { type Artifact, keepArchive } from './archive.ts'
import { bootGuest } from './boot.ts'
import { awaitCloudInit } from './cloud-init.ts'
import { type Build, type BuildRequest, beginBuild, during, sourceContext } from './context.ts'
import { convert } from './convert.ts'
import { awaited, chooseIdentities } from './identity.ts'
import { keepForInspection } from './keep.ts'
import { removeLeftovers } from './leftovers.ts'
import { logIn } from './login.ts'
import { placeSource } from './placement.ts'
import { awaitPreparation } from './preparation.ts'
import { privilegesNeeded, requireTicketForFeatures, verifyPrivileges } from './privileges.ts'
import { isProven, prove, proveCandidate } from './prove.ts'
import { demandSecrets, provision } from './provision.ts'
import { powerOff, seal } from './seal.ts'
import { decideSource, describeSource, type SourceDecision } from './source.ts'
import { requireStorages } from './storages.ts'
import { chooseVersion } from './version.ts'

/** An emulated machine needs seconds for a handshake. */
const RECONNECT_SECONDS = 120

/**
 * Builds one image, if that is needed. The current template is not touched until the new one is finished.
 * @throws ImagebuildError; nothing temporary is left then, or an event of type `leak` has said what
 */
export async function buildImage(request: BuildRequest): Promise<RunResult> {
  const { image, place, namespace, options, emit } = request
  const started = performance.now()
  using deadline = withDeadline(request.signal, image.build.timeout, `building ${image.name}`)
  const lost = new AbortController()
  const build = beginBuild(request, AbortSignal.any([deadline, lost.signal]))
  const done = (
    status: 'built' | 'unchanged',
    template: Template,
    digest: string,
    verifySeconds?: number,
  ): RunResult => {
    const row = templateRow(template, digest)
    const seconds = (performance.now() - started) / 1000
    return {
      image: image.name,
      status,
      held: template.marks.held ?? false,
      templates: [row],
      template: row,
      seconds,
      ...(verifySeconds !== undefined && { verifySeconds }),
    }
  }

  let kept: ImagebuildError | undefined
  try {
    const { decision, plan, ready } = await decide(build)
    if (ready !== undefined) return done('unchanged', ready.template, ready.digest)

    await demandSecrets(image.layers, build)
    emit({ type: 'image.start', image: image.name, target: place.target, digest: plan.digest })
    requireTicketForFeatures(build.pve, image)
    await build.pve.requirePrivileges([
      ...privilegesNeeded(image, place, build.pve.version),
      ...(options.verify === 'off' ? [] : verifyPrivileges(image, place, build.pve.version)),
    ])
    await requireStorages(build.pve, image, place)
    await using claim = await claimImage(build.pve, {
      ...build,
      image: image.name,
      slot: choose(place.vmids.claims.last - place.vmids.claims.first + 1, 'claim', namespace, image.name),
      onLost: (why) => lost.abort(claimLost(image.name, why)),
    })
    // Only now nobody else changes this image: what another run finished, or left behind, is settled first.
    const found = await removeLeftovers(build, plan.digest)
    if (!options.force && found.current !== undefined) {
      // Another run has just built it; or nobody has verified it yet, or other things than are asked for now.
      const proven =
        options.verify === 'off' || (await isProven(build, await readNote(build.pve, found.current), plan))
      const seconds = proven ? undefined : await prove(build, claim, found.current, plan)
      return done('unchanged', found.current, plan.digest, seconds)
    }
    if (!options.force && found.candidate !== undefined) {
      const seconds = await proveCandidate(build, claim, found.candidate, plan)
      await promote(build.pve, found.candidate)
      return done('built', found.candidate, plan.digest, seconds)
    }

    // Hearing that nobody answers at an address takes most of a second; meanwhile the source is placed.
    const choosing = chooseIdentities(build, claim, ['build'])
    await using _chosen = awaited(choosing)
    const source = await during(build, 'source', describeSource(decision), () =>
      placeSource(build, decision, sourceContext(build)),
    )
    const version = await chooseVersion(build)
    await using guest = await bootGuest(build, source, (await choosing).build)
    await using results = new AsyncDisposableStack()
    let archive: Artifact | undefined
    try {
      await using session = await during(build, 'boot', 'booting', () => logIn(build, guest))
      if (image.kind === 'lxc')
        await during(build, 'prepare', 'waiting for its preparation', () => awaitPreparation(build, session))
      if (hasSeed(image))
        await during(build, 'cloud-init', 'waiting for cloud-init', () => awaitCloudInit(build, session))
      for (const [index, { layer }] of plan.layers.entries()) {
        await during(build, 'layer', `layer ${index + 1}/${plan.layers.length}: ${layer.name}`, () =>
          provision(layer, { ...build, image: image.name, session }),
        )
      }
      // Before anything is removed: what was done to sshd must let people in.
      await session.reconnect({ seconds: RECONNECT_SECONDS, signal: build.signal })
      await during(build, 'seal', 'sealing', () => seal(session, guest.access, build, plan.atSeal))
      if (image.kind === 'lxc') {
        if (image.template.archive) {
          archive = await during(build, 'archive', 'keeping the archive', () =>
            keepArchive(build, image, { machine: guest, session, version }),
          )
          results.use(archive)
        }
        await powerOff(session, build)
      }
    } catch (error) {
      if (options.onError !== 'keep' || request.signal.aborted) throw error
      kept = await keepForInspection(build, guest, reasonOf(build, error))
      throw kept
    }
    const candidate = await convert(build, guest, { plan, decision, version, archive })
    // Before it is promoted: from its first mark on it may be the only current template. Where verifying or promoting
    // is cut off, the next run finds a finished candidate.
    guest.keep()
    archive?.keep()
    const seconds = await proveCandidate(build, claim, candidate, plan)
    await promote(build.pve, candidate)
    return done('built', candidate, plan.digest, seconds)
  } catch (error) {
    // That one says how to get into the guest.
    throw error === kept ? error : reasonOf(build, error)
  }
}

/** A virtual machine always gets one from us; a container only where its definition wants something of cloud-init. */
function hasSeed({ kind, cloudInit }: ImageSpec): boolean {
  return kind === 'vm' || cloudInit.length > 0
}

/** Reads only: which bytes, which digest, and whether the current template is that already. */
export async function decide(build: Build): Promise<{
  decision: SourceDecision
  plan: Plan
  /** with the digest that it was built with: another one than the plan's after a rollback */
  ready?: { template: Template; digest: string }
}> {
  const { image, pve, place, namespace, options } = build
  const current = select(await nodeTemplates(pve, place.node, namespace), image.name)
  const note = current && (await readNote(pve, current))
  const decision = await decideSource(build, note?.source, sourceContext(build))
  const plan = makePlan(image, { sourceIdentity: decision.record.identity, ssh: place.ssh })
  if (options.force || current === undefined) return { decision, plan }
  const ready = { template: current, digest: note?.digest ?? '' }
  // After a rollback the current template is another one on purpose: only --force or a promotion ends that.
  if (current.marks.held) return { decision, plan, ready }
  if (note?.digest !== plan.digest) return { decision, plan }
  return options.verify === 'off' || (await isProven(build, note, plan))
    ? { decision, plan, ready }
    : { decision, plan }
}

export function templateRow(template: Template, digest: string): TemplateRow {
  const { node, vmid, name, marks } = template
  return { node, vmid, name, version: marks.version ?? '', digest }
}

function claimLost(image: string, why: Error): ImagebuildError {
  return new ImagebuildError({
    code: 'busy',
    what: `the claim on ${image} was lost while building`,
    why: why.message,
    next: 'run again',
    cause: why,
  })
}

/** The reason of an abort counts more than what broke because of it. */
function reasonOf(build: Build, error: unknown): unknown {
  if (!build.signal.aborted) return error
  const { reason } = build.signal
  if (!(reason instanceof DeadlineError)) return reason
  return new ImagebuildError({
    code: 'build_failed',
    what: reason.message,
    next: 'raise build.timeout in the definition, if it needs more',
    cause: error,
  })
}
