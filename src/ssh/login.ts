import { ImagebuildError } from '../core/errors.ts'
import { DeadlineError, sleep } from '../core/scope.ts'
import type { Connection } from './command.ts'

/** Trying to log in while the guest boots, with a patience that fits what stands in the way. */

/** Milliseconds from the start of one try to the next: an attempt that was slow itself costs no extra wait. */
const TRY_EVERY = 250

/** Milliseconds between logins to a guest that shall go down: each costs it work that it needs for going down. */
const NOT_WANTED_WAIT = 1000

/**
 * Milliseconds to wait after the first, second, … refused login. OpenSSH from 9.8 on (PerSourcePenalties)
 * adds 5 s to an address's account for each, and shuts it out from 15 s on; with these waits it stays at 12.
 */
const REFUSED_WAITS = [1000, 2000, 5000]

/** A reason to try no further. */
export class HopelessError extends Error {
  override readonly name = 'HopelessError'
}

/** The server does not let us in; cloud-init may not have made the user yet. */
export class LoginRefusedError extends Error {
  override readonly name = 'LoginRefusedError'
}

export interface LoginOptions {
  /** who is called, for errors: `192.0.2.7 port 22` */
  at: string
  /** aborts with a DeadlineError when there is no more time */
  signal: AbortSignal
  onAttempt?: ((n: number, reason: string) => void) | undefined
  /** false: a connection that stands, but not the wanted one; it is closed and tried again */
  accept?(connection: Connection): Promise<boolean>
}

/**
 * Calls `attempt` until it gives a connection.
 * @throws ImagebuildError `build_failed` at the deadline, or at once for a HopelessError; the signal's reason
 */
export async function logIn(attempt: () => Promise<Connection>, options: LoginOptions): Promise<Connection> {
  const { at, signal, onAttempt, accept } = options
  const failed = (why: string) =>
    new ImagebuildError({ code: 'build_failed', what: `no SSH login at ${at}`, why })
  let refused = 0
  let reason = 'nothing was tried'
  for (let n = 1; ; n++) {
    const started = performance.now()
    let wait = TRY_EVERY
    try {
      const connection = await attempt()
      try {
        if (!accept || (await accept(connection))) return connection
      } catch (error) {
        await connection.end()
        throw error
      }
      await connection.end()
      reason = 'the guest has not gone down'
      wait = NOT_WANTED_WAIT
    } catch (error) {
      if (error instanceof HopelessError) throw failed(error.message)
      // What the deadline cut short says less than the try before it did.
      if (!signal.aborted || n === 1) reason = (error as Error).message
      if (error instanceof LoginRefusedError)
        wait = REFUSED_WAITS[refused++] ?? (REFUSED_WAITS.at(-1) as number)
      else wait = Math.max(0, wait - (performance.now() - started))
    }
    try {
      signal.throwIfAborted()
      onAttempt?.(n, reason)
      await sleep(wait, signal)
    } catch (error) {
      if (error instanceof DeadlineError) throw failed(`${error.message}; the last of ${n} tries: ${reason}`)
      throw error
    }
  }
}
