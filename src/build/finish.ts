import type { TemplateRow } from '../core/events.ts'
import type { Claim } from '../pve/claim-held.ts'
import { ClaimLost } from '../pve/claim-refused.ts'
import { promote } from '../pve/promotion.ts'
import { nodeTemplates, readNote, select, type Template } from '../pve/templates.ts'
import { bringToFixed } from './at-fixed-vmid.ts'
import type { Build } from './context.ts'
import { Overtaken, requireNotOvertaken, unlessOvertaken } from './overtaken.ts'
import { withReason } from './reason.ts'
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
 * @throws ClaimLost where another run has the image by now
 */
export async function finish(
  build: Build,
  claim: Claim,
  candidate: Template,
  since: number,
): Promise<Finished> {
  const { pve, image, namespace, emit } = build
  const version = candidate.marks.version ?? ''
  const staysAside = async (why: string, other: Template): Promise<Finished> => {
    const message = `${why} while this was built: ${version} is kept, and not current. To make it so: imagebuild promote ${image.name}@${version}`
    emit({ type: 'warning', image: image.name, message })
    const template = select(await nodeTemplates(pve, build.place.node, namespace), image.name) ?? other
    const { held = false } = template.marks
    return { held, template, digest: (await readNote(pve, template))?.digest ?? '' }
  }
  const bring = async () => {
    const standing = { wanted: candidate, since, under: [claim] }
    await claim.confirm()
    await requireNotOvertaken(pve, standing)
    const swapped = await bringToFixed(build, candidate, { claim, since })
    return swapped
      ? { ...swapped, untidy: [] }
      : { template: candidate, ...(await promote(unlessOvertaken(pve, standing), candidate, { since })) }
  }
  const brought = await bring().catch((error) => {
    if (error instanceof Overtaken) return error
    throw error
  })
  if (brought instanceof Overtaken) {
    const other = brought.by
    const why = `the claim on ${image.name} was gone, and ${other.marks.version} became current`
    return await staysAside(why, other)
  }
  const { template, yieldedTo, untidy } = brought
  if (yieldedTo !== undefined) {
    const aside = await staysAside(`${image.name} was rolled back to ${yieldedTo.marks.version}`, yieldedTo)
    return { ...aside, held: true }
  }
  for (const { message } of untidy) {
    const note = `${version} is current; an older one could not be marked, which the next run or prune does`
    emit({ type: 'warning', image: image.name, message: `${note}: ${message}` })
  }
  const seconds = 'seconds' in brought ? brought.seconds : undefined
  try {
    await applyRetention(build, claim, { namespace, image: image.name, keep: image.template.keep })
  } catch (error) {
    throw withCurrent(error, [{ version, node: template.node }])
  }
  return { held: false, template, ...(seconds !== undefined && { swapSeconds: seconds }) }
}

/** A claim that is lost afterwards takes nothing back. */
export function withCurrent(
  error: unknown,
  current: readonly Pick<TemplateRow, 'version' | 'node'>[],
): unknown {
  if (!(error instanceof ClaimLost) || current.length === 0) return error
  const which = current.map(({ version, node }) => `${version} on ${node}`).join(', ')
  return withReason(error.with({ next: `current is ${which}, and stays so; ${error.next}` }))
}
