import { join } from 'node:path'
import type { Event } from '../src/core/events.ts'
import { PHASES, type Phase, type TimedBuild, timeBuild } from './timed-build.ts'
import { ROOT, type Workspace } from './workspace.ts'

/** Has the source on the lab's storage, as Packer has it on this machine's disk: nothing of that is measured. */
export async function prepareOurs(workspace: Workspace, image: string, signal: AbortSignal): Promise<void> {
  // It ends as soon as the guest boots, which is long after the upload.
  const stop = new AbortController()
  const build = timeBuild({
    command: join(ROOT, 'imagebuild'),
    args: ['run', image, '--json', '--verify', 'off'],
    cwd: workspace.project,
    env: workspace.env,
    phaseOf: (line) => {
      const phase = phaseOf(line)
      if (phase === 'boot') stop.abort(new Error('prepared'))
      return phase
    },
    signal: AbortSignal.any([signal, stop.signal]),
  })
  await build.catch((error) => {
    signal.throwIfAborted()
    if (!stop.signal.aborted) throw error
  })
}

/** Builds the image once more, through the command line. */
export function ourBuild(
  workspace: Workspace,
  image: string,
  verify: 'full' | 'off',
  signal: AbortSignal,
): Promise<TimedBuild> {
  return timeBuild({
    command: join(ROOT, 'imagebuild'),
    args: ['run', image, '--force', '--json', '--verify', verify],
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
