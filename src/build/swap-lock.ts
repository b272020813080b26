import { ImagebuildError } from '../core/errors.ts'
import { step } from '../core/events.ts'
import { DeadlineError, poll, withDeadline } from '../core/scope.ts'
import { isAbandoned } from '../pve/claim.ts'
import type { Claim } from '../pve/claim-held.ts'
import { ClaimTaken, ImageHeld } from '../pve/claim-refused.ts'
import { claimAlone } from './claiming.ts'
import type { SwapBy } from './fixed-vmid.ts'

/**
 * One swap at a time for each image and node. Not the claim of builds: a rollback must not wait until a build is over.
 */
export interface SwapLock extends AsyncDisposable, Pick<Claim, 'confirm' | 'guard' | 'wasGone'> {
  /** names who swaps: notes of unfinished copies have it */
  run: string
  /** another run has the lock */
  lost: AbortSignal
  /** of the caller, or the lock was lost */
  signal: AbortSignal
}

/** Seconds that somebody else's swap is waited for. */
const PATIENCE_SECONDS = 1800

/**
 * @param wait whether somebody else's is waited for
 * @throws ImagebuildError `busy` where somebody else swaps
 */
export async function lockSwap(
  by: SwapBy,
  { tool, wait }: { tool: string; wait: boolean },
): Promise<SwapLock> {
  if (!wait) return await tryLock(by, tool)
  using patience = withDeadline(by.signal, PATIENCE_SECONDS, `waiting for another swap of ${by.image}`)
  const once = async (): Promise<SwapLock | ImageHeld> => {
    try {
      return await tryLock(by, tool)
    } catch (error) {
      if (error instanceof ImageHeld) return error
      throw error
    }
  }
  const first = await once()
  if (!(first instanceof ImageHeld)) return first
  const label = `waiting for another swap: ${first.holder.who}`
  const look = async () => {
    const found = await once()
    return found instanceof ImageHeld ? undefined : found
  }
  try {
    return await step(by.emit, { image: by.image, step: 'wait', label }, () =>
      poll(look, { signal: patience, first: 1000, max: 5000 }),
    )
  } catch (cause) {
    if (by.signal.aborted || !(cause instanceof DeadlineError)) throw cause
    throw new ImagebuildError({
      code: 'busy',
      what: `the fixed VMID of ${by.image} is being swapped by somebody else`,
      why: first.holder.who,
      next: 'try again later',
      cause,
    })
  }
}

/** Whether there is a lock whose holder is gone: taking it over and giving it back is how it goes. */
export async function isLockAbandoned(by: SwapBy): Promise<boolean> {
  const { pve, place, namespace } = by
  return await isAbandoned(pve, { place, namespace, image: nameOf(by) })
}

/** Names of images have no dots. Those of nodes may have capitals, and tags have none. */
function nameOf({ image, place }: SwapBy): string {
  return `${image}.${place.node.toLowerCase()}`
}

async function tryLock(by: SwapBy, tool: string): Promise<SwapLock> {
  for (;;) {
    try {
      const { claim, run, lost } = await claimAlone(by, nameOf(by), tool)
      return {
        run,
        lost,
        signal: AbortSignal.any([by.signal, lost]),
        get wasGone() {
          return claim.wasGone
        },
        guard: (pve) => claim.guard(pve),
        confirm: (signal) => claim.confirm(signal),
        [Symbol.asyncDispose]: () => claim[Symbol.asyncDispose](),
      }
    } catch (error) {
      if (!(error instanceof ClaimTaken)) throw error
    }
  }
}
