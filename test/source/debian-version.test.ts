import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { compareVersions } from '../../src/source/debian-version.ts'

/** From the oldest to the newest. */
const ORDER = [
  '0~~',
  '0~~a',
  '0~',
  '0',
  '0a',
  '0+',
  '12.0~rc1-1',
  '12.0-1',
  '12.2-1',
  '12.2-1.1',
  '12.2-2',
  '12.7-1',
  '12.10-1',
  '12.10.1-1',
  '13.1-1',
  '20231212',
  '20240315',
  '20240315120000000001',
  '20240315120000000002',
  '1:0.1-1',
]

test.each(ORDER.flatMap((a, i) => ORDER.slice(i + 1).map((b) => [a, b] as const)))(
  '%s is older than %s, as dpkg has it',
  (a, b) => {
    expect(compareVersions(a, b)).toBeLessThan(0)
    expect(compareVersions(b, a)).toBeGreaterThan(0)
  },
)

test('the order above is dpkg’s own', () => {
  for (const [i, version] of ORDER.slice(1).entries()) {
    execFileSync('dpkg', ['--compare-versions', ORDER[i] as string, 'lt', version])
  }
})

test.each([
  ['1.0', '1.0'],
  ['1.0', '0:1.0'],
  ['1.0', '1.0-0'],
  ['1.01', '1.1'],
])('%s is as old as %s', (a, b) => {
  expect(compareVersions(a, b)).toBe(0)
  execFileSync('dpkg', ['--compare-versions', a, 'eq', b])
})
