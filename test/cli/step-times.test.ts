import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { jsonRenderer } from '../../src/cli/render.ts'
import { StepTimes } from '../../src/cli/step-times.ts'
import type { Event } from '../../src/core/events.ts'

const STEP = { image: 'dns', step: 'archive', label: 'keeping the archive' }
const START: Event = { type: 'step.start', ...STEP }
const ended = (seconds: number, ok = true): Event => ({ type: 'step.end', ...STEP, seconds, ok })

let dir: string
let file: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-step-times-'))
  file = join(dir, 'new folder/steps.json')
})
afterEach(async () => {
  await rm(dir, { recursive: true })
})

/** A run that says this on a target, and what a reader of its JSON sees of it. */
function run(events: readonly Event[], target = 'lab'): Record<string, unknown>[] {
  let text = ''
  const times = new StepTimes(file, target)
  const sink = times.told(jsonRenderer({ write: (part: string) => (text += part) }))
  for (const event of events) sink(event)
  times.save()
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

test('the begin of a step says how long it took last time on this target', () => {
  expect(run([START, ended(61.04)])).toEqual([START, ended(61.04)])
  expect(run([START], 'home')).toEqual([START])
  expect(run([START])).toEqual([{ ...START, lastSeconds: 61 }])
})

test('what failed is not learned', () => {
  run([START, ended(61)])
  run([START, ended(5, false)])
  expect(run([START])).toEqual([{ ...START, lastSeconds: 61 }])
})

test('what another run has learned meanwhile stays', () => {
  run([START, ended(61)])
  const slow = new StepTimes(file, 'lab')
  run([START, ended(48)])
  slow.told(() => undefined)({ ...ended(7), image: 'web' } as Event)
  slow.save()
  expect(run([START])).toEqual([{ ...START, lastSeconds: 48 }])
})

test('a file that is damaged counts for none', async () => {
  run([START, ended(61)])
  await writeFile(file, (await readFile(file, 'utf8')).slice(0, -20))
  expect(run([START])).toEqual([START])
})
