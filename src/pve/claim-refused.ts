import { ImagebuildError } from '../core/errors.ts'
import { CLAIM_SECONDS, type Slot } from './claim-note.ts'
import type { Note } from './marks.ts'

/** Why an image cannot be claimed now, but may be in a while; and what it means that a claim was lost. */

/** Somebody works on the image. */
export class ImageHeld extends ImagebuildError {
  /** the run that has it, in words for people too, and where its claim lies */
  readonly holder: { run: string; who: string; slot: Slot }

  /** @param until Unix seconds by the server's clock; undefined where that tells no time */
  constructor(image: string, note: Note, { node, vmid }: Slot, until: number | undefined) {
    const who = whoBuilds(note)
    const [why, next] =
      until === undefined
        ? [
            'whether that run still lives nobody can tell at once: Proxmox’s answers have no Date',
            `give --wait to wait for it, at most until its claim has not changed for ${CLAIM_SECONDS} s`,
          ]
        : [
            `its claim is good until ${new Date(until * 1000).toISOString()} if it is not renewed`,
            'give --wait to wait for it, or run again later',
          ]
    super({ code: 'busy', what: `${image} is being built already`, why: `by ${who}; ${why}`, next })
    this.holder = { run: note.run, who, slot: { node, vmid } }
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
      what: `another run has taken over the claim on ${image}: nothing is promoted, and nothing removed but this run's own guests`,
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
