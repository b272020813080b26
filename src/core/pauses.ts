/**
 * Times in which this process did not run: its machine was suspended, the process was stopped (SIGSTOP), or it got no
 * processor time. Two signs tell: a timer comes late by the monotonic clock, which goes on while a process is stopped; or
 * the wall clock has gone further than the monotonic one, which stands still while a machine is suspended
 * (clock_gettime(2)). A wall clock that is set forward looks the same as a suspend.
 */

/** Milliseconds; the pause that a listener is told is in seconds. */
export interface Clocks {
  monotonic(): number
  wall(): number
}

/** Milliseconds between two looks at the clocks. */
export const TICK = 500

/** Milliseconds by which a look must be late: less is a busy machine, and nothing is lost by it. */
export const SHORTEST_PAUSE = 5000

interface Watcher {
  told?: ((seconds: number) => void) | undefined
}

export class PauseWatch {
  readonly #clocks: Clocks
  readonly #watchers = new Set<Watcher>()
  #timer: NodeJS.Timeout | undefined
  /** the clocks at the last look; missing while nobody watches */
  #seen: { monotonic: number; wall: number } | undefined
  #count = 0
  /** milliseconds by which the monotonic clock went on between two looks with a pause in between */
  #missed = 0

  constructor(clocks: Clocks) {
    this.#clocks = clocks
  }

  /** Pauses that were noticed so far. */
  get count(): number {
    return this.#count
  }

  /** Milliseconds by the monotonic clock, without the pauses: what this process had for its work. */
  running(): number {
    this.look()
    return this.#clocks.monotonic() - this.#missed
  }

  /** Notices a pause that has just ended: timers that were due in it may fire before the one that looks. */
  look(): void {
    const before = this.#seen
    if (before === undefined) return
    const now = { monotonic: this.#clocks.monotonic(), wall: this.#clocks.wall() }
    this.#seen = now
    const ran = now.monotonic - before.monotonic
    const late = atLeast(ran - TICK)
    const asleep = atLeast(now.wall - before.wall - ran)
    if (late + asleep === 0) return
    // When in that time the pause began cannot be told: none of it counts, so that no deadline comes too soon.
    if (late > 0) this.#missed += ran
    this.#count += 1
    for (const { told } of [...this.#watchers]) told?.((late + asleep) / 1000)
  }

  /** Watches until disposed of. @param told once for each pause, when it is over, how long it was */
  watch(told?: (seconds: number) => void): Disposable {
    const watcher: Watcher = { told }
    this.#watchers.add(watcher)
    if (this.#timer === undefined) {
      this.#seen = { monotonic: this.#clocks.monotonic(), wall: this.#clocks.wall() }
      this.#timer = setInterval(() => this.look(), TICK).unref()
    }
    return { [Symbol.dispose]: () => this.#leave(watcher) }
  }

  #leave(watcher: Watcher): void {
    this.look()
    this.#watchers.delete(watcher)
    if (this.#watchers.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#seen = undefined
  }
}

function atLeast(milliseconds: number): number {
  return milliseconds > SHORTEST_PAUSE ? milliseconds : 0
}

/** The pauses of this process. */
export const pauses = new PauseWatch({ monotonic: () => performance.now(), wall: () => Date.now() })

/**
 * Asks, and asks again where this process has paused before the answer: it says what was so before the pause, and silence
 * says nothing.
 */
export async function asOfNow<T>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    const { count } = pauses
    const answer = await ask()
    pauses.look()
    if (pauses.count === count) return answer
  }
}
