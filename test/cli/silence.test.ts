import { describe, expect, test } from 'vitest'
import { Silence } from '../../src/cli/silence.ts'
import type { Event } from '../../src/core/events.ts'

const STEP = { image: 'dns', step: 'archive', label: 'keeping the archive' }

/** A screen, and a clock that goes by hand. */
function watched() {
  const seen: string[] = []
  let seconds = 0
  const screen = (event: Event) => event.type === 'output' && seen.push(event.line)
  const silence = new Silence(screen, () => seconds * 1000)
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

  test('says how long it took last time, where that is known', () => {
    const { silence, wordsAfter } = watched()
    using _ = silence
    silence.sink({ type: 'step.start', ...STEP, lastSeconds: 61 })
    expect(wordsAfter(40)).toEqual([
      expect.stringMatching(/; this step has taken 40s, and last time 1m 01s$/),
    ])
  })
})
