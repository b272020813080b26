import { expect, test } from 'vitest'
import { killMachine } from './kill/machines.ts'
import { faults, table } from './kill/rounds.ts'

test('a virtual machine, killed at six points', { timeout: 7_200_000 }, async () => {
  const outcomes = [await killMachine()]
  process.stdout.write(`${table(outcomes)}\n`)
  expect(faults(outcomes)).toEqual([])
})
