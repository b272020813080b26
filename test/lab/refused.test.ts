import { expect, test } from 'vitest'
import { listenRefused } from '../../src/lab/refused.ts'

const refusal = (code: string) => Object.assign(new Error(`listen ${code}`), { code })

test.each([
  ['EACCES', 'prerequisite_missing', 'take a port from 1024 on'],
  ['EADDRINUSE', 'busy', "ss -ltnp 'sport = :80'"],
  ['EADDRNOTAVAIL', 'definition_invalid', 'config.json'],
])('%s is told in words that name the port or the address', (code, kind, next) => {
  expect(listenRefused(refusal(code), '127.0.0.1', 80)).toMatchObject({
    code: kind,
    what: expect.stringMatching(/127\.0\.0\.1/),
    next: expect.stringContaining(next),
  })
})

test('what is no matter of the port stays what it is', () => {
  const other = refusal('EMFILE')
  expect(listenRefused(other, '127.0.0.1', 80)).toBe(other)
})
