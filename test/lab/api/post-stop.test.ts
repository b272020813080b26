import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { PostStopHooks } from '../../../src/lab/api/containers/post-stop.ts'
import { Faults } from '../../../src/lab/api/faults.ts'
import { GuestStore } from '../../../src/lab/api/guests/store.ts'
import { readFaults } from '../../../src/lab/faults.ts'

test('of two stops within one hook’s time, whoever waits waits for the second hook too', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-post-stop-'))
  try {
    const guests = new GuestStore(folder, 'lab')
    await guests.load()
    await guests.overwrite({
      ...{ vmid: 101, node: 'lab', type: 'lxc', config: {}, pending: {}, removals: {} },
      ...{ snapshots: {}, changed: 0 },
    })
    const pauses: PromiseWithResolvers<void>[] = []
    const faults = new Faults(
      readFaults({ postStopSeconds: 1, passingErrors: { seed: 1, goingDown: 1 } }),
      () => {
        const pause = Promise.withResolvers<void>()
        pauses.push(pause)
        return pause.promise
      },
    )
    const hooks = new PostStopHooks(guests, faults)
    const first = hooks.run(101)
    const second = hooks.run(101)
    pauses[0]?.resolve()
    await first
    expect(hooks.breaksStatus(101)).toBe(true)
    const order: string[] = []
    const waiting = [
      hooks.settled(101).then(() => order.push('settled')),
      hooks.allSettled().then(() => order.push('all settled')),
    ]
    // What would not wait is over after a turn of the loop.
    await new Promise(setImmediate)
    order.push('second hook')
    pauses[1]?.resolve()
    await Promise.all([second, ...waiting])
    expect(order[0]).toBe('second hook')
    expect(order).toHaveLength(3)
  } finally {
    await rm(folder, { recursive: true })
  }
})
