import { failure } from '../errors.ts'

interface Waiter {
  shared: boolean
  wake: () => void
}

interface Lock {
  holders: number
  shared: boolean
  waiting: Waiter[]
}

export interface AcquireOptions {
  /** together with others who share it; else alone */
  shared?: boolean
  /** it is not free at once */
  onWait?: (() => void) | undefined
}

/** The file locks around guests' configurations. Whoever can share a lock does, also past others who wait for it alone. */
export class FileLocks {
  readonly #locks = new Map<number, Lock>()

  /**
   * Gives the function that releases it.
   * @param file what an error calls it
   * @throws ApiError 500 when it was not free within `seconds`
   */
  async acquire(
    vmid: number,
    file: string,
    seconds: number,
    { shared = false, onWait }: AcquireOptions = {},
  ): Promise<() => void> {
    const lock = this.#locks.get(vmid)
    if (lock === undefined) this.#locks.set(vmid, { holders: 1, shared, waiting: [] })
    else if (lock.shared && shared) lock.holders++
    else {
      onWait?.()
      await this.#turn(lock, file, seconds, shared)
    }
    let released = false
    return () => {
      if (!released) this.#release(vmid)
      released = true
    }
  }

  #turn(lock: Lock, file: string, seconds: number, shared: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        shared,
        wake: () => {
          clearTimeout(timer)
          resolve()
        },
      }
      const timer = setTimeout(() => {
        lock.waiting = lock.waiting.filter((one) => one !== waiter)
        reject(failure(`can't lock file '${file}' - got timeout`))
      }, seconds * 1000)
      lock.waiting.push(waiter)
    })
  }

  #release(vmid: number): void {
    const lock = this.#locks.get(vmid) as Lock
    lock.holders--
    if (lock.holders > 0) return
    const first = lock.waiting.shift()
    if (first === undefined) {
      this.#locks.delete(vmid)
      return
    }
    const next = [first, ...(first.shared ? lock.waiting.filter(({ shared }) => shared) : [])]
    lock.waiting = lock.waiting.filter((waiter) => !next.includes(waiter))
    lock.shared = first.shared
    lock.holders = next.length
    for (const { wake } of next) wake()
  }
}
