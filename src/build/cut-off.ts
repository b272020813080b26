import { asImagebuildError } from '../core/errors.ts'
import { isAbandoned } from '../pve/claim.ts'
import type { Claim } from '../pve/claim-held.ts'
import type { Build } from './context.ts'
import { removeLeftovers } from './leftovers.ts'
import { applyRetention } from './retention.ts'

/**
 * What a killed run has left of an image that needs no build: its claim, which is the last thing that a run gives back,
 * and with it guests, seeds, and versions beyond those that are kept. Where there is no such claim nothing is written.
 * @param builds one for each node, with the digest that the image would have there
 */
export async function settleCutOff(
  builds: readonly { build: Build; digest: string }[],
  claim: () => Promise<Claim>,
): Promise<void> {
  const [first] = builds
  if (first === undefined) return
  const { pve, place, namespace, image } = first.build
  if (!(await isAbandoned(pve, { place, namespace, image: image.name }))) return
  try {
    await using held = await claim()
    for (const { build: one, digest } of builds) {
      const build = { ...one, pve: held.guard(one.pve) }
      await removeLeftovers(build, held, digest)
      await applyRetention(build, held, { namespace, image: image.name, keep: image.template.keep })
    }
  } catch (error) {
    // Somebody else was faster, and settles it.
    if (asImagebuildError(error).code !== 'busy') throw error
  }
}
