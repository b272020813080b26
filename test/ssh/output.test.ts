import { describe, expect, test } from 'vitest'
import { MarkFilter } from '../../src/ssh/command.ts'
import { lastLines, OutputStream } from '../../src/ssh/output.ts'

const TEXT = 'ä€😀 eins\nzwei\r\n\n10%\r100%\nohne Ende 😀'
const LINES = ['ä€😀 eins', 'zwei', '', '100%', 'ohne Ende 😀']

describe('an output stream', () => {
  test.each([1, 2, 3, 5, 7, 1000])('cut into packets of %d bytes gives the same lines and text', (size) => {
    const lines: string[] = []
    const stream = new OutputStream((line) => lines.push(line))
    const bytes = Buffer.from(TEXT)
    for (let at = 0; at < bytes.length; at += size) stream.write(bytes.subarray(at, at + size))
    stream.end()
    expect(lines).toEqual(LINES)
    expect(stream.text()).toBe(TEXT)
  })

  test.each([1, 3, 10, 64])('keeps its end, whole characters only, cut into packets of %d', (size) => {
    const stream = new OutputStream(undefined, 10)
    const bytes = Buffer.from(`${'x'.repeat(50)}€€€€`)
    for (let at = 0; at < bytes.length; at += size) stream.write(bytes.subarray(at, at + size))
    // 62 bytes; the last ten begin inside of a character.
    expect(stream.text()).toBe('[the first 53 bytes are left out]\n€€€')
  })

  test('hands on an endless line in parts', () => {
    const lines: string[] = []
    const stream = new OutputStream((line) => lines.push(line))
    stream.write(Buffer.from('x'.repeat(40_000)))
    expect(lines.map((line) => line.length)).toEqual([16_384, 16_384])
    stream.end()
    expect(lines.join('')).toHaveLength(40_000)
  })

  test('last lines', () => {
    expect(lastLines('')).toEqual([])
    expect(lastLines('a\n\nb\n\n')).toEqual(['a', '', 'b'])
    expect(lastLines(Array.from({ length: 50 }, (_, n) => n).join('\n'), 3)).toEqual(['47', '48', '49'])
  })
})

describe('the mark on stderr', () => {
  const filter = (mark: string) => {
    const seen: { marks: number[]; text: string } = { marks: [], text: '' }
    const stream = new MarkFilter(
      mark,
      (value) => seen.marks.push(value),
      (chunk) => {
        seen.text += chunk
      },
    )
    return { seen, stream }
  }

  test.each([1, 4, 1000])('is taken out, wherever packets of %d bytes cut it', (size) => {
    const { seen, stream } = filter('mark77')
    const bytes = Buffer.from('bash: warning: setlocale\nmark77 4242\nreal mark77 1\n')
    for (let at = 0; at < bytes.length; at += size) stream.write(bytes.subarray(at, at + size))
    stream.end()
    expect(seen).toEqual({ marks: [4242], text: 'bash: warning: setlocale\nreal mark77 1\n' })
  })

  test('without it nothing is lost', () => {
    const { seen, stream } = filter('mark77')
    stream.write(Buffer.from('sudo: a password is required\n'))
    stream.end()
    expect(seen).toEqual({ marks: [], text: 'sudo: a password is required\n' })
  })
})
