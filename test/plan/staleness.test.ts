import { describe, expect, test } from 'vitest'
import type { Reason } from '../../src/plan/reason.ts'
import {
  digestOfReasons,
  familiesOf,
  judgeReasons,
  marksOfUnmended,
  matrixOf,
  type StaleReason,
  staleByAge,
  staleByUpdates,
  staleReasons,
  stillPending,
} from '../../src/plan/staleness.ts'
import type { PendingUpdate } from '../../src/updates/pending.ts'

const reason = (kind: StaleReason['kind'], action: StaleReason['action'], subject = 'x'): StaleReason => ({
  ...{ kind, subject, text: 'x', action },
})
const DIGEST = 'sha256:a'

describe('the state of an image', () => {
  const judge = (
    reasons: StaleReason[],
    change: Partial<Parameters<typeof judgeReasons>[1]> = {},
    digest = DIGEST,
  ) => {
    const { state, action } = judgeReasons(
      { reasons, digest },
      { isHeld: false, failures: undefined, pauseAfter: 3, ...change },
    )
    return `${state}: ${action}`
  }

  test('without a reason it is fresh; what settles most of its reasons is done', () => {
    expect(judge([])).toBe('fresh: nothing')
    expect(judge([reason('verify', 'verify')])).toBe('stale: verify')
    expect(judge([reason('definition', 'build'), reason('verify', 'verify')])).toBe('stale: build')
    expect(judge([reason('security', 'refresh'), reason('definition', 'build')])).toBe('stale: refresh')
  })

  test('what nobody can tell makes an image unknown, and rebuilds nothing', () => {
    const unknown = reason('unknown', 'nothing')
    expect(judge([unknown])).toBe('unknown: nothing')
    expect(judge([unknown, reason('age', 'refresh')])).toBe('stale: refresh')
  })

  test('held it waits, with its reasons and without', () => {
    expect(judge([reason('definition', 'build')], { isHeld: true })).toBe('held: nothing')
    expect(judge([], { isHeld: true })).toBe('held: nothing')
  })

  test('after as many failures for the same reasons it is paused, until they change', () => {
    const reasons = [reason('security', 'refresh', 'openssl'), reason('security', 'refresh', 'zlib1g')]
    const failed = (count: number) => ({
      failures: { count, reasons: digestOfReasons({ reasons, digest: DIGEST }), at: '2026-11-30T00:00:00Z' },
    })
    expect(judge(reasons, failed(2))).toBe('stale: refresh')
    expect(judge(reasons, failed(3))).toBe('paused: nothing')
    expect(judge(reasons.toReversed(), failed(3))).toBe('paused: nothing')
    // An index that cannot be had today is no new reason.
    expect(judge([...reasons, reason('unknown', 'nothing', 'trixie')], failed(3))).toBe('paused: nothing')
    expect(judge(reasons.slice(1), failed(3))).toBe('stale: refresh')
    expect(judge([...reasons, reason('age', 'refresh')], failed(3))).toBe('stale: refresh')
    // A definition that was mended.
    expect(judge(reasons, failed(3), 'sha256:b')).toBe('stale: refresh')
    // What is fresh by itself is not paused.
    expect(judge([], failed(3))).toBe('fresh: nothing')
  })
})

describe('what run has reasons for', () => {
  const told = (kind: Reason['kind'], subject = 'x'): Reason => ({ kind, subject, text: `${kind} text` })

  test.each<[Reason['kind'], StaleReason['kind']]>([
    ['new', 'missing'],
    ['hardening', 'definition'],
    ['certificates', 'definition'],
    ['recipe', 'definition'],
    ['source', 'source'],
    ['parent', 'parent'],
    ['checks', 'verify'],
    ['candidate', 'verify'],
  ])('%s is %s', (kind, stale) => {
    expect(staleReasons([told(kind)], 'build')).toEqual([
      { kind: stale, subject: 'x', text: `${kind} text`, action: 'build' },
    ])
  })

  test('places stay; that it is held, and that its record is elsewhere, is no reason in itself', () => {
    const where = { file: 'images/web/image.yaml', line: 7, column: 5 }
    const reasons = [told('held'), { ...told('definition', 'shell: true'), where }, told('unknown')]
    expect(staleReasons(reasons, 'build')).toEqual([
      { kind: 'definition', subject: 'shell: true', text: 'definition text', action: 'build', where },
    ])
    expect(staleReasons([told('held'), told('unknown')], 'build')).toMatchObject([
      { kind: 'definition', text: 'unknown text' },
    ])
  })
})

test.each<[string, number | undefined, string[]]>([
  ['2026-11-01T12:00:00Z', 30 * 86_400, []],
  ['2026-11-01T11:59:59Z', 30 * 86_400, ['built 30 days ago, on 2026-11-01 (template.maxAge: 30 days)']],
  ['2026-12-01T10:00:00Z', 3600, ['built 2 hours ago, on 2026-12-01 (template.maxAge: 1 hour)']],
  ['2026-12-01T11:59:58Z', 1, ['built 2 seconds ago, on 2026-12-01 (template.maxAge: 1 second)']],
  ['2020-01-01T00:00:00Z', undefined, []],
  ['', 3600, []],
])('an image of %s that may be %s seconds old', (built, maxAge, texts) => {
  const reasons = staleByAge(built, maxAge, new Date('2026-12-01T12:00:00Z'))
  expect(reasons.map(({ text }) => text)).toEqual(texts)
  for (const { kind, action } of reasons) expect([kind, action]).toEqual(['age', 'refresh'])
})

const update = (name: string, available = '2'): PendingUpdate => ({
  ...{ package: name, architecture: 'amd64', installed: '1', available, suite: 'trixie-security' },
  ...{ isSecurity: true, source: { name, installed: '1', available } },
})

test('an update names package, both versions, suite and what it mends', () => {
  const ids = ['CVE-2026-0007', ...[5, 3, 1, 2, 4, 6].map((serial) => `CVE-2026-000${serial}`)]
  const vulnerabilities = ids.map((id) => ({ id, urgency: 'high' as const, fixed: '2' }))
  expect(staleByUpdates('security', [{ update: update('openssl'), vulnerabilities }])).toEqual([
    {
      ...{ kind: 'security', subject: 'openssl', action: 'refresh' },
      text: 'openssl 1 → 2 (trixie-security), CVE-2026-0001, CVE-2026-0002, CVE-2026-0003, CVE-2026-0004, CVE-2026-0005 and 2 more',
      update: {
        ...{ package: 'openssl', architecture: 'amd64', installed: '1', available: '2' },
        ...{ suite: 'trixie-security', cves: ids.toSorted() },
      },
    },
  ])
  expect(staleByUpdates('updates', [{ update: update('zlib1g'), vulnerabilities: [] }])).toMatchObject([
    { kind: 'updates', text: 'zlib1g 1 → 2 (trixie-security)' },
  ])
})

describe('what a rebuild could not bring in', () => {
  test('is no reason again until there is a newer one', () => {
    const marks = marksOfUnmended([update('openssl'), update('zlib1g')])
    expect(marks).toEqual([expect.stringMatching(/^[0-9a-f]{8}$/), expect.stringMatching(/^[0-9a-f]{8}$/)])
    const now = [update('openssl', '3'), update('zlib1g'), { ...update('openssl'), architecture: 'i386' }]
    expect(
      stillPending(now, marks).map((one) => `${one.package} ${one.available} ${one.architecture}`),
    ).toEqual(['openssl 3 amd64', 'openssl 2 i386'])
    expect(stillPending(now, [])).toEqual(now)
  })

  test('has one name where it is too much for a note', () => {
    const many = Array.from({ length: 65 }, (_, index) => update(`p${index}`))
    expect(marksOfUnmended(many.slice(1))).toHaveLength(64)
    const marks = marksOfUnmended(many)
    expect(marks).toHaveLength(1)
    expect(stillPending(many.toReversed(), marks)).toEqual([])
    const newer = [update('p0', '3'), ...many.slice(1)]
    expect(stillPending(newer, marks)).toEqual(newer)
  })
})

test('a family is a root and all that is built upon it; each is one job', () => {
  const parents: Record<string, string> = { a: 'base', b: 'base', c: 'a', web: 'fresh' }
  const families = familiesOf(['base', 'alone', 'a', 'b', 'web', 'c'], (image) => parents[image])
  expect(families).toEqual([
    { family: 'base', images: ['base', 'a', 'b', 'c'] },
    { family: 'alone', images: ['alone'] },
    // Its parent is not stale.
    { family: 'web', images: ['web'] },
  ])
  expect(matrixOf(families)).toEqual({
    include: [
      { family: 'base', images: 'base a b c' },
      { family: 'alone', images: 'alone' },
      { family: 'web', images: 'web' },
    ],
  })
  expect(matrixOf([])).toEqual({ include: [] })
})
