import { ImagebuildError } from '../core/errors.ts'
import { pauses } from '../core/pauses.ts'
import { orAbort } from '../core/scope.ts'
import { Turns } from '../core/turns.ts'
import { runsHere } from './claim-judged.ts'
import { CLAIM_SECONDS, type Claiming, KIND, ownership, type Slot, write } from './claim-note.ts'
import { ClaimLost, ClaimTaken, ImageHeld } from './claim-refused.ts'
import type { Pve } from './client.ts'
import { configIfThere } from './destroy.ts'
import { mayRepeat } from './marking.ts'
import { parseNote } from './marks.ts'

/**
 * A claim while it is held. It is given up when another run has it, and for no other reason: that a renewal came late, since
 * this machine was suspended or Proxmox was away, says nothing. The claim itself says whose it is, and is asked before
 * anything is done that only its holder may do.
 */
export interface Claim extends AsyncDisposable {
  readonly vmid: number
  /** what `setTags` gave it */
  readonly tags: readonly string[]
  /** it was gone, and this run has claimed the image anew: somebody else may have had it in between */
  readonly wasGone: boolean
  /**
   * Gives the claim these tags beside its own, in place of those that an earlier call gave it. They stay until
   * the claim is released.
   * @throws as `confirm`
   */
  setTags(tags: readonly string[]): Promise<void>
  /**
   * Looks at the claim and renews it: for some minutes from now, nobody else may take it. Where it is gone, the image is
   * claimed anew.
   * @throws ClaimLost; PveError where Proxmox cannot be asked; the signal's reason
   */
  confirm(signal?: AbortSignal): Promise<void>
  /** The same connection, whose changes wait after each pause of this process until the claim is confirmed. */
  guard(pve: Pve): Pve
}

/** Seconds between two renewals. */
const RENEW_SECONDS = 60

/** Times that a renewal is written which another change comes before, or whose answer is lost. */
const TRIES = 5

/** Claims the image once more. @param signal the connection's */
type Again = (pve: Pve, signal: AbortSignal) => Promise<Slot>

/** Renews the claim until it is disposed of. */
export function hold(pve: Pve, request: Claiming, first: Slot, again: Again): Claim {
  const { image, run, emit } = request
  const { clock } = pve
  // Whoever waits for it may stop waiting; the claim is renewed all the same, also while the run cleans up.
  const released = new AbortController()
  const own = pve.withSignal(released.signal)
  const turns = new Turns()
  const watching = pauses.watch()
  let slot = first
  let extra: readonly string[] = []
  let renewals = 0
  let wasGone = false
  let lost: ClaimLost | undefined
  /** when it was renewed last: seconds by the server, or else by this process's monotonic clock */
  let renewed = now()
  /** the pauses after which it was seen to be ours */
  let confirmed = pauses.count

  function now(): number {
    return clock.seconds() ?? performance.now() / 1000
  }

  async function claimAgain(): Promise<void> {
    try {
      slot = await again(own, released.signal)
    } catch (error) {
      if (!(error instanceof ImageHeld || error instanceof ClaimTaken)) throw error
      lost = new ClaimLost(image, now() - renewed, error)
      request.onLost(lost)
      throw lost
    }
    wasGone = true
    emit({ type: 'warning', image, message: `the claim on ${image} was gone: this run has claimed it anew` })
  }

  async function renew(tags: readonly string[]): Promise<void> {
    pauses.look()
    const { count } = pauses
    for (let tries = 1; ; tries += 1) {
      if (lost !== undefined) throw lost
      if (tries > TRIES) throw unstable(image)
      const config = await configIfThere(own, { kind: KIND, ...slot })
      const isOurs = config !== undefined && parseNote(slot.vmid, config.description)?.run === run
      if (!isOurs) {
        await claimAgain()
        continue
      }
      renewals += 1
      try {
        await write(own, request, slot, config.digest, { extra: tags, renewals })
        break
      } catch (error) {
        if (tries === TRIES || !mayRepeat(error)) throw error
      }
    }
    renewed = now()
    confirmed = count
  }

  // One after the other: each must see the digest that the one before it left.
  const confirm = (signal = request.signal) =>
    orAbort(
      turns.take(() => renew(extra)),
      signal,
    )
  let settling: Promise<void> | undefined
  /** After a pause: what this run believes to be its own may be another's by now. */
  const settled = async () => {
    pauses.look()
    if (lost !== undefined || released.signal.aborted || pauses.count === confirmed) return
    settling ??= confirm(released.signal).finally(() => {
      settling = undefined
    })
    // A run that has lost its claim is stopped by its signal, and cleans up under another.
    await settling.catch((error) => {
      if (error !== lost) throw error
    })
  }

  let isLate = false
  let renewing = false
  const tick = async () => {
    let why = 'Proxmox does not answer'
    if (!renewing && lost === undefined) {
      renewing = true
      await turns
        .take(() => renew(extra))
        .catch((error: Error) => {
          why = error.message
        })
      renewing = false
    }
    const late = now() - renewed
    if (late < RENEW_SECONDS) isLate = false
    else if (late >= CLAIM_SECONDS - RENEW_SECONDS && !isLate && lost === undefined) {
      isLate = true
      const message = `the claim on ${image} has not been renewed for ${Math.round(late)} s (${why}): another run may take it over. It is looked at before anything is promoted or removed`
      emit({ type: 'warning', image, message })
    }
  }
  const timer = setInterval(() => void tick(), RENEW_SECONDS * 1000).unref()
  return {
    get vmid() {
      return slot.vmid
    },
    get tags() {
      return extra
    },
    get wasGone() {
      return wasGone
    },
    setTags: (tags) =>
      turns.take(async () => {
        await renew(tags)
        extra = [...tags]
      }),
    confirm,
    guard: (connection) => connection.withGate(settled),
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      watching[Symbol.dispose]()
      released.abort(new Error(`the claim on ${image} is released`))
      // One that is just being taken anew must not stay behind.
      await turns.take(async () => {})
      await ownership(pve, request, slot)[Symbol.asyncDispose]()
      runsHere.delete(run)
    },
  }
}

function unstable(image: string): ImagebuildError {
  return new ImagebuildError({
    code: 'busy',
    what: `the claim on ${image} could not be renewed: each time that it was claimed anew it was gone again`,
    next: 'is somebody removing guests of the range for claims (vmids.claims)? then run again',
  })
}
