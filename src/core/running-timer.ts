import { pauses } from './pauses.ts'

/** Milliseconds; a longer timer fires at once. */
const LONGEST_TIMER = 2 ** 31 - 1

/** Calls a function once this process has run for a while: pauses do not count. Disposing of it before calls nothing. */
export class RunningTimer implements Disposable {
  readonly #milliseconds: number
  readonly #then: () => void
  readonly #watching = pauses.watch()
  #due = 0
  #over = false
  #timer: NodeJS.Timeout | undefined

  constructor(milliseconds: number, then: () => void) {
    this.#milliseconds = milliseconds
    this.#then = then
    this.refresh()
  }

  /** Begins anew, unless it is over. */
  refresh(): void {
    if (this.#over) return
    clearTimeout(this.#timer)
    this.#due = pauses.running() + this.#milliseconds
    this.#arm(this.#milliseconds)
  }

  #arm(left: number): void {
    this.#timer = setTimeout(() => this.#fire(), Math.min(left, LONGEST_TIMER))
  }

  #fire(): void {
    const left = this.#due - pauses.running()
    // Timers count whole milliseconds.
    if (left >= 1) this.#arm(left)
    else {
      this[Symbol.dispose]()
      this.#then()
    }
  }

  [Symbol.dispose](): void {
    this.#over = true
    clearTimeout(this.#timer)
    this.#watching[Symbol.dispose]()
  }
}
