import { describe, expect, test } from 'vitest'
import { createBus, type Event } from '../../src/core/events.ts'
import { REDACTED, SecretRegistry } from '../../src/core/secrets.ts'
import { OutputStream } from '../../src/ssh/output.ts'

/** The same numbers each time: a failure can be looked into. */
function numbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

const ALPHABET = 'abcXYZ0189 /+=-_%\\"\'$&{}:.,éß€😀ěś'
const text = (random: (below: number) => number, length: number) => {
  const characters = [...ALPHABET]
  return Array.from({ length }, () => characters[random(characters.length)]).join('')
}

/** How programs write a secret; neighbours are what stands beside it in the same encoded text. */
type Writing = (secret: string, neighbours: [string, string]) => string
const bytes =
  (encoding: BufferEncoding): Writing =>
  (secret, [before, after]) =>
    Buffer.from(before + secret + after).toString(encoding)
const WRITINGS: Record<string, Writing> = {
  itself: (secret) => secret,
  percent: encodeURIComponent,
  'percent, lower case': (secret) => encodeURIComponent(secret).replace(/%../g, (code) => code.toLowerCase()),
  'percent, each byte': (secret) => Buffer.from(secret).toString('hex').replace(/../g, '%$&'),
  form: (secret) => new URLSearchParams({ secret }).toString(),
  JSON: (secret) => JSON.stringify({ secret }),
  'JSON, escaped': (secret) =>
    JSON.stringify(secret).replace(/[^a-z]/g, (one) =>
      one === '\\' || one === '"' ? one : `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`,
    ),
  'JSON in JSON': (secret) => JSON.stringify(JSON.stringify({ secret })),
  hex: bytes('hex'),
  HEX: (secret, neighbours) => (bytes('hex')(secret, neighbours) as string).toUpperCase(),
  base64: bytes('base64'),
  base64url: bytes('base64url'),
}

/** What a reader gets back from what was shown, whatever it is written in. */
function readings(shown: string): string[] {
  const joined = shown.replaceAll('\n', '')
  const unescaped = joined
    .replace(/\\+u([0-9a-f]{4})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)))
    .replaceAll('\\', '')
  const decoded = (from: string) =>
    Buffer.from(
      from.replace(/%([0-9a-f]{2})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16))),
      'latin1',
    ).toString()
  return [joined, joined.toLowerCase(), unescaped, decoded(joined), decoded(joined.replaceAll('+', ' '))]
}

/** The core of the encoded secret, without what it shares with its neighbours. */
function tells(shown: string, secret: string): boolean {
  const raw = readings(shown)
  const hex = Buffer.from(secret).toString('hex')
  const inBase64 = raw.some((one) =>
    (one.match(/[\w+/-]{4,}/g) ?? []).some((word) =>
      [0, 1, 2, 3].some((skip) => Buffer.from(word.slice(skip), 'base64').includes(secret)),
    ),
  )
  return (
    raw.some(
      (one) => one.includes(secret) || one.includes(hex) || one.includes(secret.replaceAll('\\', '')),
    ) || inBase64
  )
}

/** A terminal's colours and other things that nobody reads, anywhere in the text. */
function coloured(written: string, random: (below: number) => number): string {
  const marks = ['\x1b[31m', '\x1b[0m', '\x1b[1;32m', '\x1b]0;x\x07', '\x07', '\u200b', '\x1b(B']
  return [...written].map((one) => (random(3) === 0 ? marks[random(marks.length)] + one : one)).join('')
}

function cut(written: string, random: (below: number) => number, most: number): string[] {
  const parts: string[] = []
  for (let at = 0; at < written.length; ) {
    const end = at + 1 + random(most)
    parts.push(written.slice(at, end))
    at = end
  }
  return parts
}

/** Through all that stands between a guest and a screen: chunks of bytes, lines, the bus. */
function shownBy(secrets: SecretRegistry, chunks: readonly Buffer[]): string[] {
  const lines: string[] = []
  const emit = createBus(secrets, [(event: Event) => event.type === 'output' && lines.push(event.line)])
  const output = new OutputStream((line) =>
    emit({ type: 'output', image: 'web', step: 'layer', stream: 'stdout', line }),
  )
  for (const chunk of chunks) output.write(chunk)
  output.end()
  return lines
}

describe.each(Object.entries(WRITINGS))('a secret written as %s', (_name, writing) => {
  test('is not told by any part of the program’s output, however that is cut', () => {
    const random = numbers(1)
    for (let round = 0; round < 120; round++) {
      const secret = text(random, 5 + random(30))
        .trim()
        .padEnd(5, 'k')
      const secrets = new SecretRegistry()
      secrets.add(secret)
      const neighbours: [string, string] = [text(random, random(4)), text(random, random(4))]
      const written = writing(secret, neighbours)
      // Without that, the search below would be blind.
      if (round % 10 === 0) expect(tells(written, secret), written).toBe(true)
      const line = `before ${coloured(written, random)} behind\n`
      const bytes = Buffer.from(line)
      const chunks = cut(bytes.toString('latin1'), random, 12).map((part) => Buffer.from(part, 'latin1'))
      const shown = shownBy(secrets, chunks)
      expect(shown).toHaveLength(1)
      expect(tells(shown.join('\n'), secret), `${secret} in ${shown}`).toBe(false)
      expect(shown[0]).toContain(REDACTED)
      expect(shown[0]).toMatch(/^before /)
      expect(shown[0]).toMatch(/ behind$/)
    }
  })

  test('is not told by lines between which it is broken', () => {
    const random = numbers(2)
    for (let round = 0; round < 120; round++) {
      const secret = text(random, 5 + random(30))
        .trim()
        .padEnd(5, 'k')
      const secrets = new SecretRegistry()
      secrets.add(secret)
      const written = writing(secret, [text(random, random(4)), text(random, random(4))])
      const lines = cut(`before ${written} behind`, random, 20)
      const shown = shownBy(secrets, [Buffer.from(`${lines.join('\n')}\n`)])
      expect(shown).toHaveLength(lines.length)
      expect(tells(shown.join(''), secret), `${secret} in ${JSON.stringify(shown)}`).toBe(false)
      // The same, as the last lines of an output in an error.
      const listed = secrets.redactDeep({ output: lines })
      expect(listed.output).toHaveLength(lines.length)
      expect(tells(listed.output.join(''), secret), JSON.stringify(listed)).toBe(false)
    }
  })

  test('is not told where a line is too long', () => {
    const secret = 'pa$$ "word" \\ 0123456789/é'
    for (let before = 16 * 1024 - 120; before <= 16 * 1024; before += 3) {
      const secrets = new SecretRegistry()
      secrets.add(secret)
      const random = numbers(before)
      const written = coloured(writing(secret, ['', '']), random)
      const shown = shownBy(secrets, [Buffer.from(`${'.'.repeat(before)}${written}${'.'.repeat(40)}`)])
      expect(tells(shown.join(''), secret), shown.map((line) => line.slice(-150)).join('|')).toBe(false)
    }
  })
})

test.each(['pass\x1b[31mword', 'pass\x9bword'])(
  'a control character in a secret begins no sequence where it is escaped: %j',
  (secret) => {
    const secrets = new SecretRegistry()
    secrets.add(secret)
    for (const written of [secret, encodeURIComponent(secret), JSON.stringify(secret)])
      expect(secrets.redact(`before ${written} behind`)).toMatch(/^before "?•+"? behind$/)
  },
)

test('a line that is too long is not cut within an escape sequence or a character', () => {
  const secrets = new SecretRegistry()
  secrets.add('hunter😀2345')
  for (let before = 16 * 1024 - 30; before <= 16 * 1024; before++) {
    const line = `${'.'.repeat(before)}hunt\x1b[1;31mer😀2345${'.'.repeat(40)}`
    expect(shownBy(secrets, [Buffer.from(line)]).join('')).toMatch(/^\.+(h|hu|hun)?•+\.+$/)
  }
})

describe('what is known of a secret beforehand', () => {
  const secrets = new SecretRegistry()
  secrets.add('correct horse battery')

  test('at most three characters are shown of one that goes on in the next line', () => {
    const lines = secrets.lines()
    expect(['it is cor', 'rect hor', 'se battery!'].map((line) => lines.redact(line))).toEqual([
      'it is cor',
      REDACTED,
      `${REDACTED}!`,
    ])
    const others = secrets.lines()
    expect(['it is correct ho', 'rse battery!'].map((line) => others.redact(line))).toEqual([
      `it is ${REDACTED}`,
      `${REDACTED}!`,
    ])
  })

  test('lines of different outputs do not follow upon each other', () => {
    const seen: string[] = []
    const emit = createBus(secrets, [(event) => event.type === 'output' && seen.push(event.line)])
    const line = (stream: 'stdout' | 'stderr', line: string) =>
      emit({ type: 'output', image: 'web', step: 'layer', stream, line })
    line('stdout', 'a cor')
    line('stderr', 'apt: done')
    line('stdout', 'rect horse battery b')
    expect(seen).toEqual(['a cor', 'apt: done', `${REDACTED} b`])
  })

  test('newlines stay where they are', () => {
    expect(secrets.redact('a correct\n horse\n battery\nb')).toBe(
      `a ${REDACTED}\n${REDACTED}\n${REDACTED}\nb`,
    )
  })

  test('the encodings of a key are found line by line', () => {
    const keys = new SecretRegistry()
    const key = `-----BEGIN X-----\n${'QUJDREVGR0g'.repeat(6)}\n${'SUpLTE1OT1A'.repeat(6)}\n-----END X-----\n`
    keys.add(key)
    const wrapped = Buffer.from(key)
      .toString('base64')
      .match(/.{1,76}/g) as string[]
    const shown = wrapped.map(
      (
        (lines) => (line: string) =>
          lines.redact(line)
      )(keys.lines()),
    )
    expect(shown.join('')).toMatch(/^•+\w?\w?=*$/)
  })
})
