import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { inOrder } from '../../src/cli/schedule.ts'

/** The same sequence of numbers in [0, 1) each time: mulberry32. */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A forest: each name has one of those before it for its parent, or none. */
function forest(random: () => number) {
  const count = 1 + Math.floor(random() * 20)
  const names = Array.from({ length: count }, (_, index) => `image-${index}`)
  const parents = new Map(
    names.map((name, index) => [
      name,
      index > 0 && random() < 0.6 ? names[Math.floor(random() * index)] : undefined,
    ]),
  )
  return { names, parents, parentOf: (name: string) => parents.get(name) }
}

describe.each([1, 2, 3, 7])('in 60 random families, %i at once', (parallel) => {
  test('no child starts before its parent ended, nobody is left out, and there are never more', async () => {
    let most = 0
    for (let seed = 1; seed <= 60; seed += 1) {
      const random = randomNumbers(seed)
      const { names, parents, parentOf } = forest(random)
      const ended = new Set<string>()
      const begun: string[] = []
      let running = 0
      const results = await inOrder<string>(names, { parallel, parentOf }, async (name, parent) => {
        running += 1
        most = Math.max(most, running)
        begun.push(name)
        const mother = parents.get(name)
        expect(mother === undefined || ended.has(mother)).toBe(true)
        expect(parent).toBe(mother && `result of ${mother}`)
        for (let turns = Math.floor(random() * 5); turns > 0; turns -= 1) await setImmediate()
        running -= 1
        ended.add(name)
        return `result of ${name}`
      })
      expect(results).toEqual(names.map((name) => `result of ${name}`))
      expect(begun.toSorted()).toEqual(names.toSorted())
    }
    // Neither fewer, where there is work for more.
    expect(most).toBe(parallel)
  })
})

test('whoever has no parent waits for nobody', async () => {
  const go = Promise.withResolvers<void>()
  const done: string[] = []
  const all = inOrder(
    ['base', 'child', 'other'],
    { parallel: 2, parentOf: (name) => (name === 'child' ? 'base' : undefined) },
    async (name) => {
      if (name === 'base') await go.promise
      done.push(name)
    },
  )
  while (!done.includes('other')) await setImmediate()
  expect(done).toEqual(['other'])
  go.resolve()
  await all
  expect(done).toEqual(['other', 'base', 'child'])
})

test('a parent that is not among them is nobody to wait for', async () => {
  const parents: (string | undefined)[] = []
  await inOrder<string>(['child'], { parallel: 1, parentOf: () => 'base' }, async (name, parent) => {
    parents.push(parent)
    return name
  })
  expect(parents).toEqual([undefined])
})
