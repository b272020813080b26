import { expect, test } from 'vitest'
import { killContainers } from './kill/containers.ts'
import { faults, table } from './kill/rounds.ts'
import { FULL } from './tiny-project.ts'

/** The sample has of the points before a template is finished, and while clones of it run, enough for each kind of call. */
const EVERY = FULL ? 1 : 8

test('a minimal container, killed at every point of run, swap and prune', {
  timeout: 7_200_000,
}, async () => {
  const outcomes = await killContainers({ every: EVERY })
  process.stdout.write(`${table(outcomes)}\n`)
  expect(faults(outcomes)).toEqual([])
})
