import { expect, test } from 'vitest'
import { killContainers } from '../campaign/kill/containers.ts'
import { killMachine } from '../campaign/kill/machines.ts'
import { faults, table } from '../campaign/kill/rounds.ts'

/** The tool is killed with SIGKILL, again and again; the lab lives on. */

/** Of the points before a template is finished, and while clones of it run: enough for each kind of call. */
const EVERY = 8

test('a minimal container, killed at every point that decides, and at some of the others', async () => {
  const outcomes = await killContainers({ every: EVERY })
  const left = outcomes.reduce((sum, { points, rounds }) => sum + points - rounds.length, 0)
  process.stdout.write(
    `${table(outcomes)}\nleft to \`npm run test:campaign\`: ${left} points of building and verifying\n`,
  )
  expect(faults(outcomes)).toEqual([])
})

test('a virtual machine, killed at six points', async () => {
  const outcomes = [await killMachine()]
  process.stdout.write(`${table(outcomes)}\n`)
  expect(faults(outcomes)).toEqual([])
  expect(outcomes.flatMap(({ rounds }) => rounds.filter(({ reached }) => !reached))).toEqual([])
})
