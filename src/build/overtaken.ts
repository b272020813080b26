import { ImagebuildError } from '../core/errors.ts'
import type { Claim } from '../pve/claim-held.ts'
import type { Pve } from '../pve/client.ts'
import { highestTurn, overtaking } from '../pve/promotion.ts'
import { imageTemplates, type Template } from '../pve/templates.ts'
import type { SwapBy } from './fixed-vmid.ts'
import type { SwapLock } from './swap-lock.ts'

/** What another run made current while this one was without its claim, or without its lock of swaps, is not outbid. */

/** What is about to count, and what this run must hold meanwhile. */
export interface Standing {
  wanted: Template
  /** highest turn of the image when this run began: what has a higher one came after */
  since: number
  under: readonly (Pick<Claim, 'wasGone'> | undefined)[]
}

/** @param since of a build: highest turn when it began; missing for what begins now */
export async function standingOf(
  by: SwapBy,
  lock: SwapLock,
  wanted: Template,
  since?: number,
): Promise<Standing> {
  const { pve, place, namespace, image, claim } = by
  const now = async () => highestTurn(await imageTemplates(pve, { namespace, image, nodes: [place.node] }))
  return { wanted, since: since ?? (await now()), under: [lock, claim] }
}

export class Overtaken extends ImagebuildError {
  /** what is current instead */
  readonly by: Template

  constructor({ image, version }: Template['marks'], by: Template) {
    super({
      code: 'busy',
      what: `${by.marks.version} of ${image} became current meanwhile: ${version} does not replace it`,
      why: 'this run’s claim was gone for a while, and another run had the image: did this process stand still, or was it cut off from Proxmox?',
      next: `imagebuild history ${image}; to make ${version} current all the same: imagebuild promote ${image}@${version}`,
    })
    this.by = by
  }
}

/** @throws Overtaken */
export async function requireNotOvertaken(pve: Pve, { wanted, since, under }: Standing): Promise<void> {
  if (!isInDoubt(under)) return
  const other = await overtaking(pve, wanted, since)
  if (other !== undefined) throw new Overtaken(wanted.marks, other)
}

/** Whether another run may have had the image since this one began. */
export function isInDoubt(under: Standing['under']): boolean {
  return under.some((held) => held?.wasGone)
}

/** The same connection, which looks before each change. Claiming anew, which a change may wait for, comes before the look. */
export function unlessOvertaken(pve: Pve, standing: Standing): Pve {
  return pve.withGate(() => requireNotOvertaken(pve, standing))
}
