import type { Claim } from '../pve/claim-held.ts'
import type { Template } from '../pve/templates.ts'
import type { Build } from './context.ts'
import { fixedVmidOn, requireFixedVmid, type SwapBy } from './fixed-vmid.ts'
import { swapPrivileges } from './privileges.ts'
import { finishSwaps, type Swapped, swap } from './swap.ts'

/** What `template.vmid` means to a build: asked before it, kept after it. */

/** @throws ImagebuildError `definition_invalid` where one number is to serve several nodes */
export function fixedVmidOf({ image, place, places = [place], shared }: Build): number | undefined {
  const nodes = shared ? [place.node] : places.map(({ node }) => node)
  return fixedVmidOn({ name: image.name, vmid: image.template.vmid }, place.node, nodes)
}

function askedBy({ pve, place, namespace, image, emit, signal }: Build, claim?: Claim): SwapBy {
  return { pve, place, namespace, image: image.name, emit, signal, ...(claim && { claim }) }
}

/** @returns seconds of windows that were closed now */
export async function finishCutOff(builds: readonly Build[]): Promise<number> {
  let seconds = 0
  for (const build of builds) {
    if (fixedVmidOf(build) === undefined) continue
    const done = await finishSwaps(askedBy(build), { tool: build.tool, wait: true })
    seconds = Math.max(seconds, done.seconds ?? 0)
  }
  return seconds
}

/** @throws ImagebuildError that says what has one of the fixed VMIDs, or stands on what has it */
export async function requireFixedVmids(builds: readonly Build[]): Promise<void> {
  for (const build of builds) {
    const fixed = fixedVmidOf(build)
    if (fixed !== undefined) await requireFixedVmid(askedBy(build), fixed)
  }
}

/**
 * Brings a template to the VMID that the definition wants of this node, if it wants any.
 * @param claim the build's; what is there already moves without one, under the lock of swaps alone
 * @param since of a proven candidate: highest turn when its build began; missing for what is current and only moves
 * @returns undefined where it is there already, or no VMID is fixed
 */
export async function bringToFixed(
  build: Build,
  template: Template,
  { claim, since }: { claim?: Claim; since?: number },
): Promise<Swapped | undefined> {
  const { pve, place, image, tool } = build
  const fixed = fixedVmidOf(build)
  if (fixed === undefined || template.vmid === fixed) return undefined
  if (since === undefined) {
    await pve.requirePrivileges(swapPrivileges(place))
    const message = `version ${template.marks.version} moves from VMID ${template.vmid} to ${fixed}; nothing is rebuilt`
    build.emit({ type: 'info', image: image.name, message })
  }
  return await swap(askedBy(build, claim), template, fixed, { tool, ...(since !== undefined && { since }) })
}
