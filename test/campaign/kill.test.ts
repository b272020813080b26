import { expect, test } from 'vitest'
import { killContainers } from './kill/containers.ts'
import { faults, table } from './kill/rounds.ts'
import { FULL } from './tiny-project.ts'

test('a minimal container, killed at the points of run, swap and prune', {
  timeout: 7_200_000,
}, async () => {
  const outcomes = await killContainers({
    stride: FULL ? 1 : 5,
    alsoPruneInWindow: FULL,
    alsoBefore: FULL,
  })
  process.stdout.write(`${table(outcomes)}\n`)
  expect(faults(outcomes)).toEqual([])
})
