import { ImagebuildError } from '../core/errors.ts'
import { DeadlineError, withDeadline } from '../core/scope.ts'
import type { SourceContext } from '../source/context.ts'

/**
 * Seconds that a download of an index may take as a whole: the largest lists have some 20 MB, the files of vulnerabilities
 * 70 MB, which is 40 kB/s. A server that sends a byte now and then is never silent for long enough to fail otherwise.
 */
const TRANSFER_SECONDS = 1800

/**
 * Gets something within the time that `transferSeconds` gives it.
 * @throws ImagebuildError `unreachable` if it takes longer
 */
export async function inTime<T>(
  url: string,
  ctx: SourceContext,
  get: (ctx: SourceContext) => Promise<T>,
): Promise<T> {
  const seconds = ctx.transferSeconds ?? TRANSFER_SECONDS
  using signal = withDeadline(ctx.signal, seconds, url)
  try {
    return await get({ ...ctx, signal })
  } catch (cause) {
    ctx.signal.throwIfAborted()
    if (!(cause instanceof DeadlineError)) throw cause
    throw new ImagebuildError({
      code: 'unreachable',
      what: `${url} cannot be downloaded`,
      why: `it was not complete after ${seconds} seconds`,
      next: 'check the network, or use another mirror',
      cause,
    })
  }
}
