import { describe, expect, test } from 'vitest'
import { certAuthorityLines } from '../../../src/ssh/ca/known-hosts.ts'
import { keygenWindow, parseValidity, windowOf } from '../../../src/ssh/ca/validity.ts'

describe('how long a certificate is good for', () => {
  test.each([
    ['8h', 28_800],
    ['+8h', 28_800],
    ['90', 90],
    ['30m', 1800],
    ['1w2d', 777_600],
    ['52W', 31_449_600],
  ])('%s is %d seconds', (text, seconds) => {
    expect(parseValidity(text)).toBe(seconds)
  })

  test.each(['', 'h', '-8h', '8x', 'forever', 'always:forever', '0', '0h', '101000w', '1.5h'])(
    '%j is refused, with an example',
    (text) => {
      expect(() => parseValidity(text)).toThrow(
        expect.objectContaining({ code: 'usage', next: expect.stringContaining('8h') }),
      )
    },
  )

  test('counts from five minutes ago, in whole seconds', () => {
    const { from, to } = windowOf(60, new Date('2026-01-01T00:00:00.750Z'))
    expect(from.toISOString()).toBe('2025-12-31T23:55:00.000Z')
    expect(to.toISOString()).toBe('2026-01-01T00:01:00.000Z')
  })

  test('is as it was said where both ends were', () => {
    const window = { from: new Date('2026-01-01T00:00:00Z'), to: new Date('2027-01-01T00:00:00Z') }
    expect(windowOf(window)).toEqual(window)
    expect(keygenWindow(window)).toBe('20260101000000:20270101000000')
    expect(() => windowOf({ from: window.to, to: window.from })).toThrow(/end before it begins/)
  })
})

describe('lines of known_hosts', () => {
  test('one for each CA', () => {
    const keys = ['ssh-ed25519 AAAA new', 'ssh-ed25519 BBBB old']
    expect(certAuthorityLines(keys)).toBe(`@cert-authority * ${keys[0]}\n@cert-authority * ${keys[1]}\n`)
    expect(certAuthorityLines(['key'], ['*.example', '!x.example'])).toBe(
      '@cert-authority *.example,!x.example key\n',
    )
  })

  test.each(['a b', 'a,b', '#a', '@a', ''])('no pattern: %j', (domain) => {
    expect(() => certAuthorityLines(['key'], [domain])).toThrow(/domain/)
  })
})
