import { type Foresight, foresee } from '../../build/foresee.ts'
import { asImagebuildError, type ImagebuildError } from '../../core/errors.ts'
import { createBus, type Emit } from '../../core/events.ts'
import { shellWord } from '../../core/shell-word.ts'
import type { Project } from '../../definition/load.ts'
import { takeGlance } from '../../pve/glance.ts'
import { parentNameOf, requestFor } from '../build-request.ts'
import { asCalled } from '../called.ts'
import { renderFailure } from '../failure.ts'
import { explainFolder } from '../folders.ts'
import type { Invocation } from '../invocation.ts'
import { printJson, printStyled, tell, tellStyled } from '../output.ts'
import { formatPlan, type Planned, planAsJson } from '../plan-text.ts'
import { openProject, tellWarnings } from '../project.ts'
import { eventLine } from '../render.ts'
import { sayOnce } from '../say-once.ts'
import { inOrder } from '../schedule.ts'
import { chooseTarget, connectTarget, onTarget } from '../target.ts'

export interface PlanOptions {
  target?: string
  verify: 'full' | 'off'
  explain: boolean
  detailedExitcode: boolean
  json: boolean
}

/** With --detailed-exitcode, where something would be done. */
const CHANGES = 2

/** Images that are asked about at once: most of the time is waiting for lists of others. */
const AT_ONCE = 4

/** Says what `run` would do. Changes nothing in the cluster, and downloads nothing but lists. */
export async function plan(
  invocation: Invocation,
  names: readonly string[],
  options: PlanOptions,
): Promise<void> {
  const project = await openProject(invocation, names.length === 0 ? undefined : names)
  const { name: target } = chooseTarget(project, options.target)
  tellWarnings(project)
  const emit = createBus(invocation.secrets, [
    sayOnce((event) => {
      const line = event.type === 'warning' ? eventLine(event, { output: false }) : undefined
      if (line !== undefined) tell(`${line}\n`)
    }),
  ])
  const planned = await planAll(invocation, project, options, emit)
  const changes = planned.filter(isChange).length
  if (options.json) {
    printJson(planAsJson(planned, { target, changes, warnings: project.warnings }, invocation.talksTo))
  } else {
    printStyled(asCalled(formatPlan(planned, { explain: options.explain, root: project.root })))
  }
  const failures = planned.flatMap(({ error }) => error ?? [])
  if (!options.json) {
    for (const failure of failures) tellStyled(renderFailure(failure, invocation))
    if (changes > 0)
      tell(
        `next: imagebuild run ${names.length === 0 ? '--all' : names.map(shellWord).join(' ')}${onTarget(options.target)}\n`,
      )
  }
  const [failure] = failures
  process.exitCode = failure?.exitCode ?? (options.detailedExitcode && changes > 0 ? CHANGES : 0)
}

/** Parents before their children. Those that nobody asked for are looked at for their children's sake. */
async function planAll(
  invocation: Invocation,
  project: Project,
  options: PlanOptions,
  emit: Emit,
): Promise<Planned[]> {
  await using connected = await connectTarget(invocation, project, options.target, emit)
  const build = { force: false, noCache: false, onError: 'cleanup', verify: options.verify } as const
  const { namespace } = project
  const nodes = connected.places.map(({ node }) => node)
  const glance = await takeGlance(connected.pve, { namespace, nodes })
  const releases = new Map()
  const images = [...project.images.keys()]
  const order = { parallel: AT_ONCE, parentOf: (name: string) => parentNameOf(project, name) }
  const all = await inOrder<Planned>(images, order, async (name, parent) => {
    const image = project.images.get(name)
    if (image === undefined) throw new TypeError(`${name} was not loaded`)
    const isBuiltFirst = parent !== undefined && project.wanted.includes(parent.image)
    if (isBuiltFirst && parent.foresight === undefined) return { image: name, skippedBy: parent.image }
    try {
      const request = await requestFor(image, { invocation, project, connected, options: build, emit })
      const foresight = await foresee(
        { ...request, glance, releases },
        isBuiltFirst ? parent.foresight : undefined,
      )
      return { image: name, foresight: isBuiltFirst ? foresight : withParent(foresight, parent) }
    } catch (thrown) {
      invocation.signal.throwIfAborted()
      return { image: name, error: asImagebuildError(explainFolder(thrown)) }
    }
  })
  return all.filter(({ image }) => project.wanted.includes(image))
}

/** `run` builds what it is told to: a parent that is not among that stays as it is, which a person should know. */
function withParent(foresight: Foresight, parent: Planned | undefined): Foresight {
  const changes = parent?.foresight !== undefined && isChange(parent) && parent.foresight.action !== 'move'
  if (!changes) return foresight
  const text = `its parent ${parent.image} is out of date; \`imagebuild run ${parent.image}\` comes first, and then this is rebuilt`
  return { ...foresight, reasons: [...foresight.reasons, { kind: 'parent', subject: parent.image, text }] }
}

function isChange({ foresight }: { foresight?: Foresight; error?: ImagebuildError }): boolean {
  return foresight !== undefined && foresight.action !== 'nothing' && foresight.action !== 'held'
}
