import { orAbort } from '../src/core/scope.ts'

/** Each call of a forge: it ends with the signal's reason, or fails by what `failureOf` makes of the library's error. */
export function withFailureOf(
  signal: AbortSignal,
  failureOf: (error: unknown, what: string) => unknown,
): <T>(what: string, work: Promise<T>) => Promise<T> {
  return async (what, work) => {
    try {
      return await orAbort(work, signal)
    } catch (error) {
      signal.throwIfAborted()
      throw failureOf(error, what)
    }
  }
}
