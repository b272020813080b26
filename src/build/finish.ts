import { promote } from '../pve/promotion.ts'
import { nodeTemplates, readNote, select, type Template } from '../pve/templates.ts'
import { bringToFixed } from './at-fixed-vmid.ts'
import type { Build } from './context.ts'
import { applyRetention } from './retention.ts'

export interface Finished {
  /** what counts now */
  template: Template
  /** of its definition, where that is not the one that was built */
  digest?: string
  /** seconds that nothing was at the fixed VMID */
  swapSeconds?: number
  /** somebody rolled back while this was built: it is not current */
  held: boolean
}

/**
 * From a proven candidate to the template that counts, and away with what is beyond `template.keep`. Where this is cut
 * off, the next run finds the candidate.
 * @param since highest turn of the image when the build began
 */
export async function finish(build: Build, candidate: Template, since: number): Promise<Finished> {
  const { pve, image, namespace, emit } = build
  const swapped = await bringToFixed(build, candidate, since)
  const { yieldedTo, untidy } = swapped
    ? { yieldedTo: swapped.yieldedTo, untidy: [] }
    : await promote(pve, candidate, { since })
  const version = candidate.marks.version ?? ''
  if (yieldedTo !== undefined) {
    const message =
      `${image.name} was rolled back to ${yieldedTo.marks.version} while this was built: ${version} is kept, and not current. ` +
      `To make it so: imagebuild promote ${image.name}@${version}`
    emit({ type: 'warning', image: image.name, message })
    const here = select(await nodeTemplates(pve, build.place.node, namespace), image.name)
    const template = here ?? yieldedTo
    return { held: true, template, digest: (await readNote(pve, template))?.digest ?? '' }
  }
  for (const { message } of untidy) {
    const note = `${version} is current; an older one could not be marked, which the next run or prune does`
    emit({ type: 'warning', image: image.name, message: `${note}: ${message}` })
  }
  await applyRetention(build, { namespace, image: image.name, keep: image.template.keep })
  const { template = candidate, seconds } = swapped ?? {}
  return { held: false, template, ...(seconds !== undefined && { swapSeconds: seconds }) }
}
