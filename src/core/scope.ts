import { setTimeout as delay } from 'node:timers/promises'
import { ByHandError } from './errors.ts'
import type { Emit } from './events.ts'
import { RunningTimer } from './running-timer.ts'

/**
 * Lifetimes. What must not outlive a build is owned by `await using`; a wait has a deadline and listens
 * to a signal. Deadlines count what was possible: a pause of this process (pauses.ts) is not. Cleaning up is
 * different from working: it ignores the aborted signal, has its own deadline, never throws, and says what it had to
 * leave behind.
 */

/** Seconds that the disposal of one resource may take. */
export const CLEANUP_SECONDS = 120

export class DeadlineError extends Error {
  override readonly name = 'DeadlineError'
}

/** A signal that aborts with `parent`, or with a DeadlineError after this process has run for `seconds`. */
export function withDeadline(
  parent: AbortSignal | undefined,
  seconds: number,
  what: string,
): AbortSignal & Disposable {
  const controller = new AbortController()
  const timer = new RunningTimer(seconds * 1000, () =>
    controller.abort(new DeadlineError(`${what} took longer than ${seconds} s`)),
  )
  const onAbort = () => controller.abort(parent?.reason)
  if (parent?.aborted) onAbort()
  else parent?.addEventListener('abort', onAbort, { once: true })
  const stop = () => {
    timer[Symbol.dispose]()
    parent?.removeEventListener('abort', onAbort)
  }
  if (controller.signal.aborted) stop()
  else controller.signal.addEventListener('abort', stop, { once: true })
  return Object.assign(controller.signal, { [Symbol.dispose]: stop })
}

export interface PollOptions {
  signal: AbortSignal
  /** milliseconds before the second try; each wait is 1.5 times the one before */
  first?: number
  /** milliseconds between tries at most */
  max?: number
}

/** Calls `probe` until it gives something other than undefined. Quick first, then calmer. Throws only the signal's reason or what `probe` throws. */
export async function poll<T>(probe: () => Promise<T | undefined>, options: PollOptions): Promise<T> {
  let wait = options.first ?? 50
  for (;;) {
    options.signal.throwIfAborted()
    const found = await probe()
    if (found !== undefined) return found
    await sleep(wait, options.signal)
    wait = Math.min(wait * 1.5, options.max ?? 1000)
  }
}

/** Waits, or throws the signal's own reason (not a wrapper around it). */
export async function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(milliseconds, undefined, { signal })
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
}

/** The end of work that does not look at this signal; throws the signal's reason, and waits no longer, when it aborts first. */
export async function orAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const over = Promise.withResolvers<never>()
  const onAbort = () => over.reject(signal.reason)
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([work, over.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
    work.catch(() => {})
  }
}

export interface Owned {
  /** what it is, with what a person needs to find it: `VM 9000 on lab` */
  resource: string
  image?: string
  /** what to type if it could not be removed */
  next: string
  /** removes it; the signal is the cleanup's own deadline */
  remove(signal: AbortSignal): Promise<void>
  emit: Emit
}

/** A resource that is removed when its scope ends, unless somebody calls `keep()`. */
export class Ownership implements AsyncDisposable {
  #kept = false
  readonly #owned: Owned

  constructor(owned: Owned) {
    this.#owned = owned
  }

  /** From here on it survives. */
  keep(): void {
    this.#kept = true
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#kept) return
    this.#kept = true
    const { resource, image, next, remove, emit } = this.#owned
    using signal = withDeadline(undefined, CLEANUP_SECONDS, `removing ${resource}`)
    try {
      await orAbort(remove(signal), signal)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      const step = (error instanceof ByHandError ? error.next : undefined) ?? next
      emit({ type: 'leak', ...(image && { image }), resource, why, next: step })
    }
  }
}
