import { vi } from 'vitest'
import { pauses } from '../../src/core/pauses.ts'

/**
 * Lets the clocks of this process go on as they do while it does not run: `stopped` both of them, `suspended` only the
 * wall clock. They stay ahead until mocks are restored.
 */
export function pause(how: 'stopped' | 'suspended', seconds: number): void {
  if (!vi.isMockFunction(Date.now)) {
    const [monotonic, wall] = [performance.now.bind(performance), Date.now.bind(Date)]
    ahead = { monotonic: 0, wall: 0 }
    vi.spyOn(performance, 'now').mockImplementation(() => monotonic() + ahead.monotonic)
    vi.spyOn(Date, 'now').mockImplementation(() => wall() + ahead.wall)
  }
  if (how === 'stopped') ahead.monotonic += seconds * 1000
  ahead.wall += seconds * 1000
}

let ahead = { monotonic: 0, wall: 0 }

/** Watches for pauses until disposed of, as whatever works under a deadline does. */
export function watched(): Disposable & { told: number[] } {
  const told: number[] = []
  return Object.assign(
    pauses.watch((seconds) => told.push(seconds)),
    { told },
  )
}
