import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Silence, StepTimes } from '../../src/cli/silence.ts'
import type { Event } from '../../src/core/events.ts'

const STEP = { image: 'dns', step: 'archive', label: 'keeping the archive' }

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-silence-'))
})
afterEach(async () => {
  await rm(dir, { recursive: true })
})
const times = (target = 'lab') => new StepTimes(join(dir, 'new folder/steps.json'), target)

/** A screen, and a clock that goes by hand. */
function watched(known = times()) {
  const seen: string[] = []
  let seconds = 0
  const screen = (event: Event) => event.type === 'output' && seen.push(event.line)
  const silence = new Silence(screen, known, () => seconds * 1000)
  const wordsAfter = (more: number) => {
    seconds += more
    silence.look()
    return seen.splice(0)
  }
  return { silence, wordsAfter }
}

describe('a silent step', () => {
  test('says what it waits for and for how long, every half minute', () => {
    const { silence, wordsAfter } = watched()
    using _ = silence
    silence.sink({ type: 'step.start', ...STEP })
    expect(wordsAfter(29)).toEqual([])
    expect(wordsAfter(1)).toEqual([
      'silent for 30s: waiting for Proxmox, which packs the container (vzdump); this step has taken 30s',
    ])
    expect(wordsAfter(29)).toEqual([])
    expect(wordsAfter(1)).toEqual([expect.stringMatching(/^silent for 1m 00s: /)])
  })

  test('that says something itself is not interrupted, and one that has ended is not waited for', () => {
    const { silence, wordsAfter } = watched()
    using _ = silence
    silence.sink({ type: 'step.start', ...STEP })
    wordsAfter(29)
    silence.sink({ type: 'output', ...STEP, stream: 'task', line: '50 %' })
    expect(wordsAfter(29)).toEqual(['50 %'])
    silence.sink({ type: 'step.end', ...STEP, seconds: 58, ok: true })
    expect(wordsAfter(60)).toEqual([])
  })

  test('says how long it took last time on this target', () => {
    const first = times()
    first.learn(STEP, 61.04)
    first.save()
    const { silence, wordsAfter } = watched(times())
    using _ = silence
    silence.sink({ type: 'step.start', ...STEP })
    expect(wordsAfter(40)).toEqual([
      expect.stringMatching(/; this step has taken 40s, and last time 1m 01s$/),
    ])
    expect(times('home').of(STEP)).toBeUndefined()
  })
})

test('what failed is not learned, and a file that is damaged counts for none', async () => {
  const known = times()
  using silence = new Silence(() => undefined, known)
  silence.sink({ type: 'step.end', ...STEP, seconds: 5, ok: false })
  expect(known.of(STEP)).toBeUndefined()
  known.learn(STEP, 7)
  known.save()
  await writeFile(join(dir, 'new folder/steps.json'), '{ "lab / dns')
  expect(times().of(STEP)).toBeUndefined()
})
