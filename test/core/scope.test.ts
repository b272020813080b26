import { afterEach, describe, expect, test, vi } from 'vitest'
import type { Event } from '../../src/core/events.ts'
import { CLEANUP_SECONDS, DeadlineError, Ownership, poll, sleep, withDeadline } from '../../src/core/scope.ts'

afterEach(() => {
  vi.useRealTimers()
})

describe('withDeadline', () => {
  test('aborts after its seconds, and says what took so long', () => {
    vi.useFakeTimers()
    using signal = withDeadline(undefined, 5, 'booting')
    vi.advanceTimersByTime(4999)
    expect(signal.aborted).toBe(false)
    vi.advanceTimersByTime(1)
    expect(signal.reason).toBeInstanceOf(DeadlineError)
    expect(signal.reason.message).toBe('booting took longer than 5 s')
  })

  test('aborts with its parent, for its parent’s reason', () => {
    const parent = new AbortController()
    using signal = withDeadline(parent.signal, 60, 'x')
    const reason = new Error('Ctrl-C')
    parent.abort(reason)
    expect(signal.reason).toBe(reason)
    using late = withDeadline(parent.signal, 60, 'x')
    expect(late.reason).toBe(reason)
  })

  test('is over with its scope', () => {
    vi.useFakeTimers()
    const parent = new AbortController()
    const outlived = (() => {
      using signal = withDeadline(parent.signal, 5, 'x')
      return signal
    })()
    vi.advanceTimersByTime(10_000)
    parent.abort()
    expect(outlived.aborted).toBe(false)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('a deadline in some months is not one at once', () => {
    vi.useFakeTimers()
    using signal = withDeadline(undefined, 10_000_000, 'x')
    vi.advanceTimersByTime(60_000)
    expect(signal.aborted).toBe(false)
  })
})

describe('poll', () => {
  test('asks again until there is an answer', async () => {
    const answers = [undefined, undefined, 0]
    const { signal } = new AbortController()
    expect(await poll(async () => answers.shift(), { signal, first: 1 })).toBe(0)
    expect(answers).toEqual([])
  })

  test('throws the signal’s own reason, also in mid-wait', async () => {
    const reason = new Error('enough')
    const controller = new AbortController()
    const polling = poll(async () => undefined, { signal: controller.signal, first: 60_000 })
    controller.abort(reason)
    await expect(polling).rejects.toBe(reason)
    const probe = vi.fn(async () => 1)
    await expect(poll(probe, { signal: controller.signal })).rejects.toBe(reason)
    expect(probe).not.toHaveBeenCalled()
    await expect(sleep(60_000, controller.signal)).rejects.toBe(reason)
  })

  test('throws what the probe throws', async () => {
    const { signal } = new AbortController()
    const error = new Error('no such VM')
    await expect(poll(() => Promise.reject(error), { signal })).rejects.toBe(error)
  })
})

describe('Ownership', () => {
  function owned(remove: (signal: AbortSignal) => Promise<void>) {
    const events: Event[] = []
    const ownership = new Ownership({
      resource: 'VM 9000 on lab',
      image: 'web',
      next: 'run `imagebuild prune`',
      remove,
      emit: (event) => events.push(event),
    })
    return { ownership, events }
  }

  test('removes what it owns, once', async () => {
    const remove = vi.fn(async () => {})
    const { ownership, events } = owned(remove)
    await ownership[Symbol.asyncDispose]()
    await ownership[Symbol.asyncDispose]()
    expect(remove).toHaveBeenCalledTimes(1)
    expect(events).toEqual([])
  })

  test('leaves what somebody keeps', async () => {
    const remove = vi.fn(async () => {})
    const { ownership } = owned(remove)
    ownership.keep()
    await ownership[Symbol.asyncDispose]()
    expect(remove).not.toHaveBeenCalled()
  })

  test.each([new Error('Proxmox is gone'), 'Proxmox is gone'])(
    'does not throw, but says what it left: %s',
    async (thrown) => {
      const { ownership, events } = owned(() => Promise.reject(thrown))
      await ownership[Symbol.asyncDispose]()
      expect(events).toEqual([
        {
          type: 'leak',
          image: 'web',
          resource: 'VM 9000 on lab',
          why: 'Proxmox is gone',
          next: 'run `imagebuild prune`',
        },
      ])
    },
  )

  test('gives removing a deadline of its own, and waits no longer even if nobody looks at it', async () => {
    vi.useFakeTimers()
    let given: AbortSignal | undefined
    const { ownership, events } = owned((signal) => {
      given = signal
      return new Promise(() => {})
    })
    const disposing = ownership[Symbol.asyncDispose]()
    await vi.advanceTimersByTimeAsync(CLEANUP_SECONDS * 1000 - 1)
    expect(given?.aborted).toBe(false)
    expect(events).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    await disposing
    expect(given?.aborted).toBe(true)
    expect(events).toMatchObject([
      { type: 'leak', why: `removing VM 9000 on lab took longer than ${CLEANUP_SECONDS} s` },
    ])
  })
})
