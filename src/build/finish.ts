import type { Plan } from '../plan/plan.ts'
import type { Claim } from '../pve/claim-held.ts'
import { promote } from '../pve/promotion.ts'
import type { Template } from '../pve/templates.ts'
import type { Build } from './context.ts'
import { proveCandidate } from './prove.ts'

export interface Finished {
  template: Template
  /** somebody rolled back while this was built: it is not current */
  held: boolean
  verifySeconds: number | undefined
}

/**
 * From a finished candidate to the template that counts. Where this is cut off, the next run finds the candidate.
 * @param since highest turn of the image when the build began
 */
export async function finish(
  build: Build,
  claim: Claim,
  candidate: Template,
  { plan, since }: { plan: Plan; since: number },
): Promise<Finished> {
  const { pve, image, emit } = build
  const verifySeconds = await proveCandidate(build, claim, candidate, plan)
  const { yieldedTo, untidy } = await promote(pve, candidate, { since })
  const version = candidate.marks.version ?? ''
  if (yieldedTo !== undefined) {
    const message =
      `${image.name} was rolled back to ${yieldedTo.marks.version} while this was built: ${version} is kept, and not current. ` +
      `To make it so: imagebuild promote ${image.name}@${version}`
    emit({ type: 'warning', image: image.name, message })
    return { template: candidate, held: true, verifySeconds }
  }
  for (const { message } of untidy) {
    const note = `${version} is current; an older one could not be marked, which the next run or prune does`
    emit({ type: 'warning', image: image.name, message: `${note}: ${message}` })
  }
  return { template: candidate, held: false, verifySeconds }
}
