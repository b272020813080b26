import { expect, test } from 'vitest'
import { killMachine } from './kill/machines.ts'
import { faults, table } from './kill/rounds.ts'
import { FULL } from './tiny-project.ts'

test('a virtual machine, killed at six points, or at three of them', { timeout: 7_200_000 }, async () => {
  const outcomes = [await killMachine({ full: FULL })]
  process.stdout.write(`${table(outcomes)}\n`)
  expect(faults(outcomes)).toEqual([])
})
