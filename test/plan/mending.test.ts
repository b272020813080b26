import { expect, test } from 'vitest'
import { mendsAll, unmendedOf } from '../../src/plan/mending.ts'
import {
  marksOfUnmended,
  type StaleReason,
  type StaleUpdate,
  stillPending,
} from '../../src/plan/staleness.ts'
import type { Note } from '../../src/pve/marks.ts'

const note = (change: Partial<Note> = {}): Note => ({
  ...{ schema: 1, vmid: 9000, namespace: 'homelab', image: 'web', kind: 'vm', tool: '0', run: 'r' },
  ...change,
})
const update = (name: string, available = '2'): StaleUpdate => ({
  ...{ package: name, architecture: 'amd64', installed: '1', available, suite: 'trixie-security', cves: [] },
})
const reason = (kind: StaleReason['kind'], more: Partial<StaleReason> = {}): StaleReason => ({
  ...{ kind, subject: 'x', text: 'x', action: 'refresh' },
  ...more,
})
const security = (...names: string[]) => names.map((name) => reason('security', { update: update(name) }))
const has = (name: string, version: string) => ({
  ...{ name, version, architecture: 'amd64', source: name, sourceVersion: version },
})
const DAY = 86_400
const at = { maxAge: 30 * DAY, now: () => new Date('2026-12-01T00:00:00Z') }

test('packages mend when none of those that were asked for is older than what there is', () => {
  const mends = mendsAll({ reasons: security('openssl', 'zlib') }, at)
  expect(mends(note(), [has('openssl', '2'), has('zlib', '2+b1')])).toBe(true)
  expect(mends(note(), [has('openssl', '2'), has('zlib', '1')])).toBe(false)
  // A package that is not in it any more lacks nothing.
  expect(mends(note(), [has('openssl', '2')])).toBe(true)
})

test('what the run that made it could not mend either is not asked of it', () => {
  const mends = mendsAll({ reasons: security('openssl', 'zlib') }, at)
  const unmended = marksOfUnmended([update('zlib')])
  expect(mends(note({ unmended }), [has('openssl', '2'), has('zlib', '1')])).toBe(true)
})

test('age is mended by a younger one, a parent by another version of it', () => {
  const old = mendsAll({ reasons: [reason('age')] }, at)
  expect(old(note({ built: '2026-11-20T00:00:00Z' }), [])).toBe(true)
  expect(old(note({ built: '2026-10-20T00:00:00Z' }), [])).toBe(false)
  expect(old(note(), [])).toBe(false)
  const source = (version: string) => ({ request: 'base', identity: 'sha256:a', version, fallback: false })
  const child = mendsAll({ reasons: [reason('parent')], note: note({ source: source('1') }) }, at)
  expect(child(note({ source: source('2') }), [])).toBe(true)
  expect(child(note({ source: source('1') }), [])).toBe(false)
})

test('unmended is what was asked for and is still pending; what came up meanwhile is not', () => {
  const asked = {
    reasons: security('openssl', 'zlib'),
    note: note({ unmended: marksOfUnmended([update('tar')]) }),
  }
  const unmended = unmendedOf(asked, [update('zlib'), update('tar'), update('curl')])
  expect(unmended).toEqual(marksOfUnmended([update('zlib'), update('tar')]))
  expect(stillPending([update('curl'), update('zlib', '3')], unmended)).toHaveLength(2)
})
