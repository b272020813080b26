import { ImagebuildError } from '../core/errors.ts'
import { DeadlineError } from '../core/scope.ts'
import type { Build } from './context.ts'

/** Errors that have their reason already, and something to say beside it. */
const complete = new WeakSet<object>()

export function withReason<E extends ImagebuildError>(error: E): E {
  complete.add(error)
  return error
}

/** The reason of an abort counts more than what broke because of it. */
export function reasonOf({ signal }: Build, error: unknown): unknown {
  if (!signal.aborted || complete.has(error as object)) return error
  const { reason } = signal
  if (!(reason instanceof DeadlineError)) return reason
  return new ImagebuildError({
    code: 'build_failed',
    what: reason.message,
    next: 'raise build.timeout in the definition, if it needs more',
    cause: error,
  })
}
