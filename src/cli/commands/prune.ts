import { type Pruned, prune } from '../../build/prune.ts'
import { asImagebuildError } from '../../core/errors.ts'
import { createBus, type Emit } from '../../core/events.ts'
import { readConfig } from '../../definition/config.ts'
import { InvalidDefinition } from '../../definition/diagnostics.ts'
import { findConfig } from '../../definition/find.ts'
import { allFixedVmids } from '../../definition/fixed-vmids.ts'
import type { ImageSpec } from '../../definition/spec.ts'
import type { Invocation } from '../invocation.ts'
import { LeftBehind } from '../left-behind.ts'
import { eventLines, print, tell } from '../output.ts'
import { openProject } from '../project.ts'
import { plainRenderer } from '../render.ts'
import { connectTarget } from '../target.ts'
import { tellPauses } from '../tell-pauses.ts'

/** Removes what nobody needs: what interrupted runs have left, and versions beyond those that are kept. */
export async function pruneCommand(
  invocation: Invocation,
  options: { target?: string; dryRun: boolean; kept: boolean },
): Promise<void> {
  const left = new LeftBehind()
  const emit = createBus(invocation.secrets, [plainRenderer(eventLines), left.sink])
  const config = await readConfig(await findConfig(process.cwd(), invocation.config))
  using _telling = tellPauses(emit)
  const images = await definitions(invocation, emit)
  const fixedVmids = allFixedVmids(config.root)
  await using connected = await connectTarget(invocation, { ...config, fixedVmids }, options.target, emit)
  const { pve, places, signal } = connected
  let count = 0
  for (const place of places) {
    const pruned = await prune({
      ...{ pve, place, ...options, emit },
      namespace: config.namespace,
      keep: (image) => images.get(image)?.template.keep,
      signal,
      tool: invocation.version,
    })
    for (const one of pruned) print(`${said(one, options.dryRun)}\n`)
    count += pruned.filter(({ spared }) => spared === undefined).length
  }
  const remains = left.text()
  tell(remains)
  if (count === 0 && remains === '') tell('nothing to remove\n')
}

/** How many versions an image keeps stands in its definition; what has none here keeps all. */
async function definitions(invocation: Invocation, emit: Emit): Promise<ReadonlyMap<string, ImageSpec>> {
  try {
    return (await openProject(invocation)).images
  } catch (error) {
    if (!(error instanceof InvalidDefinition)) throw error
    const message = `all versions are kept, since how many it should be cannot be read: ${asImagebuildError(error).what}. See: imagebuild validate`
    emit({ type: 'warning', message })
    return new Map()
  }
}

function said({ kind, id, image, why, spared }: Pruned, dryRun: boolean): string {
  if (spared !== undefined) return `spared ${kind} ${id} of ${image}: ${why}, but ${spared}`
  const now = dryRun ? 0 : 1
  if (kind === 'swap') return `${['would finish', 'finished'][now]} the swap of ${id} of ${image}: ${why}`
  const done = kind === 'promotion' ? ['would mark', 'marked'] : ['would remove', 'removed']
  const what = kind === 'promotion' ? id : `${kind} ${id}`
  return `${done[now]} ${what} of ${image}: ${why}`
}
