import { type RunResult, step } from '../core/events.ts'
import { poll } from '../core/scope.ts'
import { isStale } from '../pve/claim-judged.ts'
import { ClaimTaken, ImageHeld } from '../pve/claim-refused.ts'
import { configIfThere } from '../pve/destroy.ts'
import { parseNote } from '../pve/marks.ts'
import { buildImage } from './build.ts'
import type { BuildRequest } from './context.ts'

/** Milliseconds between two looks at a claim: the first, and the longest. */
const FIRST_LOOK = 1000
const CALM_LOOK = 5000

/**
 * Builds an image as soon as nobody else does. Waiting has no deadline but the signal: the builds of others have theirs,
 * and this one's own begins when it begins. What the other one built counts: then the result is `unchanged`.
 */
export async function buildWhenFree(request: BuildRequest): Promise<RunResult> {
  const { image, emit } = request
  for (;;) {
    try {
      return await buildImage(request)
    } catch (error) {
      if (error instanceof ImageHeld) {
        const label = `waiting for ${error.holder.who}`
        await step(emit, { image: image.name, step: 'wait', label }, () => released(request, error))
      } else if (!(error instanceof ClaimTaken)) {
        throw error
      }
    }
  }
}

/** Reads only, so that many may wait for one. */
async function released({ pve, signal }: BuildRequest, { holder: { run, slot } }: ImageHeld): Promise<void> {
  const watching = pve.withSignal(signal)
  const look = async () => {
    const config = await configIfThere(watching, { kind: 'vm', ...slot })
    const note = config && parseNote(slot.vmid, config.description)
    const isOver = config === undefined || note?.run !== run || (await isStale(pve, { ...slot, config }))
    return isOver ? true : undefined
  }
  await poll(look, { signal, first: FIRST_LOOK, max: CALM_LOOK })
}
