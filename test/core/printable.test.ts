import { describe, expect, test } from 'vitest'
import { oneLine, printable, printableJson, printableStyled } from '../../src/core/printable.ts'

/** C0 but tab and newline, DEL, C1; what reorders, and Unicode's line ends. */
const STEERING = /[^\P{Cc}\t\n]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u

describe('text from outside', () => {
  test.each([
    ['\x1b[1mbold\x1b[0m', 'bold'],
    ['\x1b]0;title\x07x', 'x'],
    ['\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\', 'link'],
    ['\x9b2Jx\x9d0;t\x9cy', 'xy'],
    ['a\r\nb\tc', 'a\nb\tc'],
    ['50%\r100%', '50%\ufffd100%'],
    ['pay\u202e10.00', 'pay\ufffd10.00'],
    ['Grüße, 你好, 👩‍🔧', 'Grüße, 你好, 👩‍🔧'],
    // What is left of it is text, and no sequence: what stood before it does not join it to one.
    ['\x1b\x1b[0m]0;owned\x07', '\ufffd]0;owned\ufffd'],
    ['\x1b\x1b[0m[2J', '\ufffd[2J'],
    ['\x1b]0;unfinished', '\ufffd]0;unfinished'],
  ])('%j', (text, shown) => {
    expect(printable(text)).toBe(shown)
  })

  test('has nothing that steers a terminal in it, and a second time changes nothing', () => {
    const parts = [
      '\x1b',
      '[',
      ']',
      '0;',
      'm',
      '2J',
      '\x07',
      '\x9b',
      '\x9d',
      '\x9c',
      '\\',
      'P',
      '(',
      'a',
      '\u2066',
      '\r',
      '\n',
    ]
    let state = 7
    const random = (below: number) => {
      state = (state * 1103515245 + 12345) & 0x7fffffff
      return (state >>> 8) % below
    }
    for (let round = 0; round < 3000; round++) {
      const text = Array.from({ length: 1 + random(12) }, () => parts[random(parts.length)]).join('')
      const shown = printable(text)
      expect(shown, JSON.stringify(text)).not.toMatch(STEERING)
      expect(printable(shown)).toBe(shown)
    }
  })

  test('takes no longer for being hostile', () => {
    // Quadratic, this would be ten thousand million steps.
    const text = '\x9d'.repeat(100_000) + '\x1b]'.repeat(50_000)
    expect(printable(text)).toBe('\ufffd'.repeat(100_000) + '\ufffd]'.repeat(50_000))
  })

  test('stays one line where it must', () => {
    expect(oneLine('a\n::error::b\tc\x1b[2J')).toBe('a ::error::b c')
  })

  test('in a text with colours of our own loses all but colours', () => {
    expect(printableStyled('\x1b[31merror:\x1b[39m \x1b[2J\x1b]0;x\x07y')).toBe('\x1b[31merror:\x1b[39m y')
  })

  test('in JSON is escaped, and is the same JSON', () => {
    const value = { a: 'x\x9b2J\u202e\x7f\u2028', b: ['\x1b[0m'] }
    const json = printableJson(JSON.stringify(value, undefined, 2))
    expect(json).not.toMatch(STEERING)
    expect(JSON.parse(json)).toEqual(value)
  })
})
