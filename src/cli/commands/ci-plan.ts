import { createBus, type Emit } from '../../core/events.ts'
import { shellWord } from '../../core/shell-word.ts'
import type { Project } from '../../definition/load.ts'
import { familiesOf, matrixOf } from '../../plan/staleness.ts'
import { parentNameOf } from '../build-request.ts'
import { asCalled } from '../called.ts'
import { forgeToRead, takeOver } from '../ci-open-change.ts'
import { planRebuilds, type RebuildPlan } from '../ci-plan.ts'
import { formatStates, statesAsJson } from '../ci-plan-text.ts'
import { repositoryOf } from '../ci-records.ts'
import { renderFailure } from '../failure.ts'
import type { Invocation } from '../invocation.ts'
import { isOnCi } from '../on-ci.ts'
import { eventLines, printJson, printStyled, tell, tellStyled, terminal } from '../output.ts'
import { openProject, tellWarnings } from '../project.ts'
import { plainRenderer } from '../render.ts'
import { sayOnce } from '../say-once.ts'
import { chooseTarget, connectTarget, onTarget } from '../target.ts'
import { TerminalRenderer } from '../terminal.ts'

export interface CiPlanOptions {
  target?: string
  json: boolean
  matrix: boolean
  detailedExitcode: boolean
}

/** With --detailed-exitcode, where something is stale or unknown. */
const STALE = 2

/** Says which images are stale, and why. Changes nothing in the cluster, and downloads nothing but lists. */
export async function ciPlan(
  invocation: Invocation,
  names: readonly string[],
  options: CiPlanOptions,
): Promise<void> {
  const project = await openProject(invocation, names.length === 0 ? undefined : names)
  const { name: target } = chooseTarget(project, options.target)
  tellWarnings(project)
  const { states, failures, suites } = await look(invocation, project, options)
  // What cannot be told is a job as well: its failure is told where those of builds are.
  const asked = states.filter(({ action, image }) => action !== 'nothing' || failures.has(image))
  const families = familiesOf(
    asked.map(({ image }) => image),
    (image) => parentNameOf(project, image),
  )
  if (options.matrix) {
    printJson(matrixOf(families), 'one line')
  } else if (options.json) {
    const { warnings } = project
    printJson(statesAsJson(states, { target, families, suites, warnings }, failures, invocation.talksTo))
  } else {
    printStyled(asCalled(formatStates(states, project.root)))
  }
  if (!options.json) for (const failure of failures.values()) tellStyled(renderFailure(failure, invocation))
  if (!options.json && !options.matrix && asked.length > 0) {
    tell(`next: imagebuild ${['ci run', ...names.map(shellWord)].join(' ')}${onTarget(options.target)}\n`)
  }
  const [failure] = options.matrix ? [] : failures.values()
  const isStale = states.some(({ state }) => state === 'stale' || state === 'unknown')
  process.exitCode = failure?.exitCode ?? (options.detailedExitcode && isStale ? STALE : 0)
}

async function look(invocation: Invocation, project: Project, options: CiPlanOptions): Promise<RebuildPlan> {
  using live = terminal().isTTY ? new TerminalRenderer(terminal()) : undefined
  const emit: Emit = createBus(invocation.secrets, [sayOnce(live?.sink ?? plainRenderer(eventLines))])
  const { pullRequest } = project.ci
  // Where people work, files of the project change by what builds or promotes alone.
  if (pullRequest !== undefined && isOnCi()) {
    const { name: target } = chooseTarget(project, options.target)
    const at = { root: project.root, repository: repositoryOf(project.root), target }
    const forge = await forgeToRead(pullRequest, { invocation, at, emit })
    const { problems } =
      forge === undefined ? { problems: [] } : await takeOver(forge, { invocation, at, emit })
    for (const message of problems) emit({ type: 'warning', message })
  }
  await using connected = await connectTarget(invocation, project, options.target, emit)
  return await planRebuilds({ invocation, project, connected, target: options.target, emit })
}
