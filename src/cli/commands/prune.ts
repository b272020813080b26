import { prune } from '../../build/leftovers.ts'
import { createBus } from '../../core/events.ts'
import type { Invocation } from '../invocation.ts'
import { openProject } from '../project.ts'
import { plainRenderer } from '../render.ts'
import { connectTarget } from '../target.ts'

/** Removes what no living run needs. Finished templates are never touched. */
export async function pruneCommand(
  invocation: Invocation,
  options: { target?: string; dryRun: boolean; kept: boolean },
): Promise<void> {
  const project = await openProject(invocation, [])
  const emit = createBus(invocation.secrets, [plainRenderer(process.stderr)])
  await using connected = await connectTarget(invocation, project, options.target, emit)
  const pruned = await prune({
    ...connected,
    namespace: project.namespace,
    ...options,
    emit,
    signal: invocation.signal,
  })
  for (const { kind, id, image, why } of pruned) {
    process.stdout.write(`${options.dryRun ? 'would remove' : 'removed'} ${kind} ${id} of ${image}: ${why}\n`)
  }
  if (pruned.length === 0) process.stderr.write('nothing to remove\n')
}
