import { type ErrorCode, ImagebuildError } from '../core/errors.ts'
import { quoteName } from './names.ts'

/** Where an archive is from, for errors: a bad source is the definition's fault, a bad tree of ours the build's. */
export interface Origin {
  /** as it stands in messages: `the archive debian-12.tar.zst` */
  name: string
  blame: Extract<ErrorCode, 'definition_invalid' | 'build_failed'>
}

/** Thrown where it is found out; `at` an origin it becomes the error that leaves this room. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly entry: string | undefined

  /** @param entry name of the entry as it stands in the archive, where it is about one */
  constructor(why: string, entry?: string, options?: ErrorOptions) {
    super(why, options)
    this.entry = entry
  }

  at(origin: Origin): ImagebuildError {
    return new ImagebuildError({
      code: origin.blame,
      what:
        this.entry === undefined
          ? `${origin.name} is refused`
          : `${origin.name} is refused at its entry ${quoteName(this.entry)}`,
      why: this.message,
      next: 'use an archive from a source that you trust, or make it again',
      cause: this,
    })
  }
}
