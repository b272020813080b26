import { join } from 'node:path'
import { beginBuild, sourceContext } from '../src/build/context.ts'
import { placeSource } from '../src/build/placement.ts'
import { cacheFolder } from '../src/cli/folders.ts'
import type { Invocation } from '../src/cli/invocation.ts'
import { installMissing, LAB_HOST } from '../src/cli/prerequisites.ts'
import { connectTarget } from '../src/cli/target.ts'
import { createBus, type Event } from '../src/core/events.ts'
import type { Project } from '../src/definition/load.ts'
import type { ImageSpec } from '../src/definition/spec.ts'
import { thisOwner } from '../src/pve/owner.ts'
import { bootstrapDisk } from '../src/source/bootstrap.ts'
import { type BootstrapRecipe, bootstrapIdentity } from '../src/source/bootstrap-recipe.ts'
import type { CachedFile } from '../src/source/context.ts'
import { PHASES, type Phase, type TimedBuild, timeBuild } from './timed-build.ts'
import { IMAGE, ROOT, type Workspace } from './workspace.ts'

/**
 * What is ready before anything is measured: the lab runs, and the source is on its storage.
 * @returns the same source as a local file, for the other side
 */
export async function prepareOurs(
  invocation: Invocation,
  project: Project,
  image: ImageSpec,
): Promise<CachedFile> {
  const { signal, secrets, version } = invocation
  const emit = createBus(secrets, [(event) => 'message' in event && console.error(event.message)])
  await installMissing(LAB_HOST, emit)
  const { source } = image
  if (source.kind !== 'bootstrap') throw new TypeError('the benchmark starts from a bootstrapped system')
  const recipe: BootstrapRecipe = {
    distribution: source.distribution,
    suite: source.suite,
    arch: source.architecture,
    packages: source.packages,
  }
  const cacheDir = cacheFolder()
  const disk = await bootstrapDisk(recipe, { cacheDir, signal })
  await using target = await connectTarget(invocation, project, 'lab', emit)
  const build = beginBuild(
    {
      image,
      pve: target.pve,
      place: target.place,
      namespace: project.namespace,
      options: { force: false, noCache: false, onError: 'cleanup', verify: 'off' },
      secrets,
      emit,
      signal,
      cacheDir,
      keptDir: project.root,
      ancestors: [],
      reportsDir: project.root,
      root: project.root,
      owner: await thisOwner(),
      tool: version,
    },
    signal,
  )
  const identity = bootstrapIdentity(recipe)
  const record = { request: '', identity, version: '', fallback: false }
  await placeSource(build, { record, from: { kind: 'bootstrap', recipe } }, sourceContext(build))
  return disk
}

/** Builds the image once more, through the command line. */
export function ourBuild(workspace: Workspace, signal: AbortSignal): Promise<TimedBuild> {
  return timeBuild({
    command: join(ROOT, 'imagebuild'),
    args: ['run', IMAGE, '--force', '--json'],
    cwd: workspace.project,
    env: workspace.env,
    phaseOf,
    signal,
  })
}

const steps = new Set<string>(PHASES)

function phaseOf(line: string): Phase | undefined {
  // Warnings of Node go to stderr, which is no JSON.
  if (!line.startsWith('{')) return undefined
  const event = JSON.parse(line) as Event
  if (event.type === 'image.end') return 'end'
  if (event.type !== 'step.start') return undefined
  const phase = event.step === 'layer' ? 'layers' : event.step
  return steps.has(phase) ? (phase as Phase) : undefined
}
