import { ImagebuildError } from '../core/errors.ts'

export interface NotSentFacts {
  /** what was not sent, and to whom: `the message to ntfy (https://ntfy.sh)` */
  what: string
  /** `sent` when missing */
  verb?: string
  why: string
  next: string
  /** it may succeed when it is tried again */
  passing?: boolean
  /** seconds that the server asks for before the next try */
  afterSeconds?: number
}

/** A message, ping or file that did not reach whom it is for. No text of it holds a secret; it has no cause, which might. */
export class NotSent extends ImagebuildError {
  readonly passing: boolean
  readonly afterSeconds: number | undefined

  constructor({ what, verb = 'sent', why, next, passing = false, afterSeconds }: NotSentFacts) {
    super({ code: 'unreachable', what: `${what} was not ${verb}`, why, next })
    this.passing = passing
    this.afterSeconds = afterSeconds
  }
}
