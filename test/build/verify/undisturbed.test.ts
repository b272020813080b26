import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { undisturbed } from '../../../src/build/verify/undisturbed.ts'
import { pause, watched } from '../../core/paused.ts'
import { aBuild } from '../world.ts'

let watching: Disposable
beforeEach(() => {
  watching = watched()
})
afterEach(() => {
  watching[Symbol.dispose]()
  vi.restoreAllMocks()
})

const isGood = (result: string) => result === 'good'

test('what goes well is done once, also across a pause', async () => {
  const build = aBuild()
  const work = vi.fn(async () => {
    pause('stopped', 600)
    return 'good'
  })
  expect(await undisturbed(build, work, isGood)).toBe('good')
  expect(work).toHaveBeenCalledTimes(1)
  expect(build.events).toEqual([])
})

test.each([
  ['a bad result', async () => 'bad'],
  ['a failure', () => Promise.reject(new Error('no answer'))],
])(
  '%s counts where this process has not paused; after a pause it is tried once more, and that is told',
  async (_what, end) => {
    const build = aBuild()
    const outcome = await Promise.allSettled([end()])
    expect(await Promise.allSettled([undisturbed(build, end, isGood)])).toEqual(outcome)
    expect(build.events).toEqual([])
    let tries = 0
    const work = async () => {
      tries += 1
      if (tries === 1) pause('suspended', 600)
      return tries === 1 ? await end() : 'good'
    }
    expect(await undisturbed(build, work, isGood)).toBe('good')
    expect(build.events).toMatchObject([{ type: 'info', message: expect.stringContaining('once more') }])
  },
)

test('a build that is over tries nothing more', async () => {
  const stop = new AbortController()
  const work = vi.fn(async () => {
    pause('stopped', 600)
    stop.abort(new Error('Ctrl-C'))
    throw new Error('Ctrl-C')
  })
  await expect(undisturbed(aBuild({ signal: stop.signal }), work, isGood)).rejects.toThrow('Ctrl-C')
  expect(work).toHaveBeenCalledTimes(1)
})
