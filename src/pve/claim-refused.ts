import { ImagebuildError } from '../core/errors.ts'
import type { Slot } from './claim-held.ts'
import type { Note } from './marks.ts'

/** Why an image cannot be claimed now, but may be in a while. */

/** Somebody works on the image. */
export class ImageHeld extends ImagebuildError {
  /** the run that has it, in words for people too, and where its claim lies */
  readonly holder: { run: string; who: string; slot: Slot }

  constructor(image: string, note: Note, { node, vmid }: Slot) {
    const who = whoBuilds(note)
    const until = new Date((note.expires ?? 0) * 1000).toISOString()
    super({
      code: 'busy',
      what: `${image} is being built already`,
      why: `by ${who}; its claim is good until ${until} if it is not renewed`,
      next: 'give --wait to wait for it, or run again later',
    })
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

/** `process 4711 on ci-2 (run 1a2b3c4d), building it since 2026-01-01T00:00:00.000Z`; older notes do not say since when. */
function whoBuilds({ owner, run, since }: Note): string {
  const who = owner === undefined ? 'another builder' : `process ${owner.pid} on ${owner.host}`
  return `${who} (run ${run}), building it${since === undefined ? '' : ` since ${since}`}`
}
