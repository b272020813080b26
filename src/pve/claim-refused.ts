import { ImagebuildError } from '../core/errors.ts'
import { CLAIM_SECONDS, type Slot } from './claim-note.ts'
import type { Note } from './marks.ts'
import type { ServerClock } from './server-clock.ts'

/** Why an image cannot be claimed now, but may be in a while; and what it means that a claim was lost. */

/** Somebody works on the image. */
export class ImageHeld extends ImagebuildError {
  /** the run that has it, in words for people too, and where its claim lies */
  readonly holder: { run: string; who: string; slot: Slot }

  constructor(image: string, note: Note, { node, vmid }: Slot, known: HolderFacts) {
    const who = whoBuilds(note)
    const { why, next } = whyHeld(note, known)
    super({ code: 'busy', what: `${image} is being built already`, why: `by ${who}; ${why}`, next })
    this.holder = { run: note.run, who, slot: { node, vmid } }
  }
}

/** What whoever is refused knows of the holder. */
export interface HolderFacts {
  /** its process is one of this machine, and lives */
  livesHere: boolean
  clock: ServerClock
}

function whyHeld({ owner, expires }: Note, { livesHere, clock }: HolderFacts): { why: string; next: string } {
  const wait = 'give --wait to wait for it, or run again later'
  const now = clock.seconds()
  if (livesHere && owner !== undefined && expires !== undefined && now !== undefined && expires < now) {
    const late = Math.round(now - expires + CLAIM_SECONDS)
    const why = `that process lives on this machine, so the claim is its own, though it has not renewed it for ${late} s`
    const next = `is it stopped? \`kill -CONT ${owner.pid}\` lets it go on, \`kill ${owner.pid}\` ends it; or ${wait}`
    return { why, next }
  }
  if (livesHere) return { why: 'that process lives on this machine', next: wait }
  if (expires !== undefined && now !== undefined) {
    const until = new Date(expires * 1000).toISOString()
    return { why: `its claim is good until ${until}, by Proxmox’s clock, if it is not renewed`, next: wait }
  }
  return {
    why: 'whether that run still lives nobody can tell at once: Proxmox’s answers have no Date',
    next: `give --wait to wait for it, at most until its claim has not changed for ${CLAIM_SECONDS} s`,
  }
}

/** The claim had expired, and another runner was quicker. */
export class ClaimTaken extends ImagebuildError {
  constructor(image: string, cause: unknown) {
    super({
      code: 'busy',
      what: `another builder took over the expired claim on ${image} at the same moment`,
      next: 'give --wait to wait for it, or run again later',
      cause,
    })
  }
}

/** This run had the claim, and another one has it now. */
export class ClaimLost extends ImagebuildError {
  /** @param unrenewed seconds since this run has last renewed it */
  constructor(image: string, unrenewed: number, cause: ImageHeld | ClaimTaken) {
    const who = cause instanceof ImageHeld ? cause.holder.who : 'another run'
    const why =
      unrenewed >= CLAIM_SECONDS
        ? `this run had not renewed it for ${Math.round(unrenewed)} s: was this machine suspended, or cut off from Proxmox?`
        : `this run renewed it ${Math.round(unrenewed)} s ago: is the other one of an older version, which judges by its own clock?`
    super({
      code: 'busy',
      what: `another run has taken over the claim on ${image}: this run promotes nothing any more, and removes nothing but its own guests`,
      why: `${who}; ${why}`,
      next: 'run the same command again when that run is over; what this one has finished waits as a candidate until then',
      cause,
    })
  }
}

/** `process 4711 on ci-2 (run 1a2b3c4d), building it since 2026-01-01T00:00:00.000Z`; older notes do not say since when. */
function whoBuilds({ owner, run, since }: Note): string {
  const who = owner === undefined ? 'another builder' : `process ${owner.pid} on ${owner.host}`
  return `${who} (run ${run}), building it${since === undefined ? '' : ` since ${since}`}`
}
