import { describe, expect, test } from 'vitest'
import { closest, suggest } from '../../src/core/did-you-mean.ts'
import {
  codeFrame,
  type Diagnostic,
  InvalidDefinition,
  renderDiagnostic,
  sortDiagnostics,
} from '../../src/definition/diagnostics.ts'
import { maskSecrets } from '../../src/definition/literal-secrets.ts'

const LINES = ['name: a', 'provison: []', '', 'kind: vm']
const span = (line: number, column: number, endColumn: number) => ({ line, column, endLine: line, endColumn })
const one: Diagnostic = {
  severity: 'error',
  file: '/home/me/images/a/image.yaml',
  ...span(2, 1, 9),
  message: 'unknown key `provison`',
  hint: 'did you mean `provision`?',
  frame: codeFrame(LINES, span(2, 1, 9)),
}

describe('renderDiagnostic', () => {
  test('place, message, frame, hint', () => {
    expect(renderDiagnostic(one, { cwd: '/home/me' })).toBe(
      `images/a/image.yaml:2:1: error: unknown key \`provison\`
  1 | name: a
  2 | provison: []
    | ^^^^^^^^
  did you mean \`provision\`?`,
    )
    expect(renderDiagnostic(one, { cwd: '/srv' })).toMatch(/^\/home\/me\/images\/a\/image.yaml:2:1: /)
  })
  test('colour changes nothing else', () => {
    const colored = renderDiagnostic(one, { color: true, cwd: '/home/me' })
    expect(colored).toContain('\u001b[31m')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what is looked for
    expect(colored.replace(/\u001b\[\d+m/g, '')).toBe(renderDiagnostic(one, { cwd: '/home/me' }))
  })
  test('escape sequences of the file do not reach the terminal', () => {
    const evil = { ...one, message: 'not `\u001b[2Jx`', frame: codeFrame(['\u001b[2Jx'], span(1, 1, 2)) }
    expect(renderDiagnostic(evil)).not.toContain('\u001b')
  })
})

describe('codeFrame', () => {
  test('a span over several lines is marked to the end of its first', () => {
    expect(codeFrame(['a: |', '  b'], { line: 1, column: 4, endLine: 2, endColumn: 4 })).toBe(
      '  1 | a: |\n    |    ^\n  2 |   b',
    )
  })
  test('line numbers are aligned, tabs do not move the carets', () => {
    const lines = [...Array(9).fill('x'), '\ta: b', 'y']
    expect(codeFrame(lines, span(10, 5, 6))).toBe('   9 | x\n  10 |  a: b\n     |     ^\n  11 | y')
  })
  test('a long line is cut around the place', () => {
    const frame = codeFrame([`${'x'.repeat(500)}HERE${'y'.repeat(500)}`], span(1, 501, 505)).split('\n')
    expect(frame[0]?.length).toBeLessThan(140)
    expect(frame[1]?.indexOf('^')).toBe(frame[0]?.indexOf('HERE'))
  })
})

describe('InvalidDefinition', () => {
  test('counts, sorts, and tells nothing twice', () => {
    const other = { ...one, file: '/a', line: 9 }
    const error = new InvalidDefinition([one, other, one])
    expect(error.what).toBe('2 mistakes in 2 files')
    expect(error.where?.file).toBe('/a')
    expect(sortDiagnostics([one, other, one])).toEqual([other, one])
    expect(new InvalidDefinition([one]).what).toBe('1 mistake in 1 file')
  })
})

describe('closest', () => {
  test.each([
    ['provison', 'provision'],
    ['naem', 'name'],
    ['Name', 'name'],
    ['sourc', 'source'],
    ['zzz', undefined],
    ['x', undefined],
  ])('%s', (typed, expected) => {
    expect(closest(typed, ['name', 'source', 'provision'])).toBe(expected)
  })
  test('the nearest of several', () => {
    expect(closest('debian/1', ['ubuntu/22.04', 'debian/12'])).toBe('debian/12')
    expect(closest('ab', ['abc', 'ab'])).toBe('ab')
    expect(closest('ca', ['abc', 'ac'])).toBe('ac')
    expect(suggest('a', [])).toBeUndefined()
  })
})

describe('maskSecrets', () => {
  test.each([
    ['token: abc', 'token: •••'],
    ['  - api_token: "abc"', '  - api_token: "••••'],
    ['{ kind: pve, password: abc }', '{ kind: pve, password: •••••'],
    ['token: env:X', 'token: env:X'],
    ['password: |\n  abc\n\n  d\nnode: n', 'password: •\n  •••\n\n  •\nnode: n'],
    ['secret:\n  abc\nb: c', 'secret:\n  •••\nb: c'],
    ['url: https://me:pass@host/x', 'url: https://me:••••@host/x'],
    ['name: token', 'name: token'],
  ])('%j', (text, expected) => {
    const masked = maskSecrets(text)
    expect(masked).toBe(expected)
    expect(masked).toHaveLength(text.length)
  })
})
