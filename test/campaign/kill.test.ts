import { expect, test } from 'vitest'
import { killContainers } from './kill/containers.ts'
import { faults, table } from './kill/rounds.ts'

/** In full; test/e2e/kill.test.ts has a part of it, and the virtual machine. */
test('a minimal container, killed at every point of run and prune', { timeout: 7_200_000 }, async () => {
  const outcomes = await killContainers({ every: 1 })
  process.stdout.write(`${table(outcomes)}\n`)
  expect(faults(outcomes)).toEqual([])
})
