import { afterEach, describe, expect, test, vi } from 'vitest'
import { asOfNow, PauseWatch, SHORTEST_PAUSE, TICK } from '../../src/core/pauses.ts'
import { RunningTimer } from '../../src/core/running-timer.ts'
import { DeadlineError, withDeadline } from '../../src/core/scope.ts'
import { pause, watched } from './paused.ts'

afterEach(() => {
  vi.restoreAllMocks()
  vi.useRealTimers()
})

/** Clocks that go as they are told; nothing ticks. */
function clocks() {
  const now = { monotonic: 1_000_000, wall: 1_700_000_000_000 }
  const watch = new PauseWatch({ monotonic: () => now.monotonic, wall: () => now.wall })
  const told: number[] = []
  watch.watch((seconds) => told.push(seconds))
  const pass = (monotonic: number, wall = monotonic) => {
    now.monotonic += monotonic
    now.wall += wall
    watch.look()
  }
  return { watch, told, pass }
}

describe('a pause of this process', () => {
  test('is noticed where a look comes late, as after SIGSTOP: its length does not count as running', () => {
    const { watch, told, pass } = clocks()
    const before = watch.running()
    pass(TICK)
    pass(600_000 + TICK)
    pass(TICK)
    expect(told).toEqual([600])
    expect(watch.count).toBe(1)
    expect(watch.running() - before).toBe(2 * TICK)
  })

  test('is noticed where the wall clock has gone further, as after a suspend: the monotonic one has not counted it', () => {
    const { watch, told, pass } = clocks()
    const before = watch.running()
    pass(TICK, 3600_000 + TICK)
    expect(told).toEqual([3600])
    expect(watch.running() - before).toBe(TICK)
  })

  test('is told once, with its whole length, where a stopped process was suspended too', () => {
    const { watch, told, pass } = clocks()
    pass(100_000 + TICK, 400_000 + TICK)
    watch.look()
    expect(told).toEqual([400])
  })

  test.each([
    ['a busy machine', TICK + SHORTEST_PAUSE, TICK + SHORTEST_PAUSE],
    ['a clock that is corrected by a few seconds', TICK, TICK + SHORTEST_PAUSE],
    ['a clock that is set back', TICK, -3_600_000],
  ])('is none: %s', (_what, monotonic, wall) => {
    const { watch, told, pass } = clocks()
    pass(monotonic, wall)
    expect(told).toEqual([])
    expect(watch.count).toBe(0)
  })

  test('is none where nobody has watched', () => {
    const now = { monotonic: 0, wall: 0 }
    const watch = new PauseWatch({ monotonic: () => now.monotonic, wall: () => now.wall })
    watch.watch()[Symbol.dispose]()
    now.monotonic += 600_000
    watch.look()
    expect(watch.count).toBe(0)
  })

  test('that nobody has noticed yet is, when the last one stops watching', () => {
    const now = { monotonic: 0, wall: 0 }
    const watch = new PauseWatch({ monotonic: () => now.monotonic, wall: () => now.wall })
    const watching = watch.watch()
    now.monotonic += 600_000
    watching[Symbol.dispose]()
    expect(watch.count).toBe(1)
  })
})

describe('a deadline', () => {
  test.each(['stopped', 'suspended'] as const)(
    'whose time passes while the process is %s waits for as long',
    (how) => {
      vi.useFakeTimers()
      using signal = withDeadline(undefined, 60, 'booting')
      vi.advanceTimersByTime(50_000)
      pause(how, 600)
      // The timer is overdue, and fires before anybody has looked.
      vi.advanceTimersByTime(9000)
      expect(signal.aborted).toBe(false)
      vi.advanceTimersByTime(2000)
      expect(signal.reason).toBeInstanceOf(DeadlineError)
    },
  )

  test('that fires before anybody has noticed the pause notices it itself', () => {
    vi.useFakeTimers()
    const soon = 0.3 * TICK
    using signal = withDeadline(undefined, soon / 1000, 'an answer')
    pause('stopped', 600)
    vi.advanceTimersByTime(soon)
    expect(signal.aborted).toBe(false)
    vi.advanceTimersByTime(soon)
    expect(signal.aborted).toBe(true)
  })

  test('may be begun anew, but not when it is over', () => {
    vi.useFakeTimers()
    let fired = 0
    const timer = new RunningTimer(1000, () => {
      fired += 1
    })
    vi.advanceTimersByTime(900)
    timer.refresh()
    vi.advanceTimersByTime(900)
    expect(fired).toBe(0)
    vi.advanceTimersByTime(100)
    timer.refresh()
    vi.advanceTimersByTime(5000)
    expect(fired).toBe(1)
    expect(vi.getTimerCount()).toBe(0)
  })
})

test('what was asked before a pause, and is answered after it, is asked again', async () => {
  using _watching = watched()
  let asked = 0
  const answer = await asOfNow(async () => {
    asked += 1
    if (asked === 1) pause('stopped', 600)
    return asked
  })
  expect(answer).toBe(2)
  expect(await asOfNow(async () => 'at once')).toBe('at once')
})
