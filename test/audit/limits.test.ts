import { expect, test } from 'vitest'
import type { Findings } from '../../audit/audit-clone.ts'
import type { Profile } from '../../audit/definition.ts'
import { type Audited, judge, type Limit } from '../../audit/limits.ts'
import { failingRules, formatReport } from '../../audit/report.ts'

const rule = (id: string, result: string) => ({ id, title: `Title of ${id}`, result })

function audited(profile: Profile, boots: number[], findings: Partial<Findings> = {}): Audited {
  return {
    profile,
    boots,
    findings: {
      openscap: [rule('one', 'pass'), rule('two', 'pass'), rule('three', 'notapplicable')],
      lynis: { version: '3.0.8', index: 90, warnings: [], suggestions: ['SSH-7408: Consider it'] },
      sshAudit: { failures: [], warnings: [] },
      policy: { policy: 'Hardened', passed: true, errors: [] },
      ...findings,
    },
  }
}

const results = (audits: Audited[]) =>
  judge('12', audits).map(({ profile, figure, kept }) => `${profile} ${figure}: ${kept ? 'kept' : 'missed'}`)

test('a hardened image that is clean keeps all limits', () => {
  const audits = [
    audited('none', [40, 42, 90]),
    audited('baseline', [50, 52, 50]),
    audited('cis-l1', [60, 60, 60]),
  ]
  expect(results(audits)).toEqual([
    'baseline failures: kept',
    'baseline warnings: kept',
    'baseline lynis: kept',
    'baseline slower: kept',
    'cis-l1 failures: kept',
    'cis-l1 warnings: kept',
    'cis-l1 policy: kept',
    'cis-l1 lynis: kept',
    'cis-l1 openscap: kept',
  ])
})

test.each<[string, Profile, Partial<Findings>]>([
  ['failures', 'baseline', { sshAudit: { failures: ['kex'], warnings: [] } }],
  ['warnings', 'cis-l1', { sshAudit: { failures: [], warnings: ['mac'] } }],
  ['policy', 'cis-l1', { policy: { policy: 'Hardened', passed: false, errors: [] } }],
  ['lynis', 'baseline', { lynis: { version: '3.0.8', index: 74, warnings: [], suggestions: [] } }],
  ['lynis', 'cis-l1', { lynis: { version: '3.0.8', index: 84, warnings: [], suggestions: [] } }],
  ['openscap', 'cis-l1', { openscap: [rule('one', 'pass'), rule('two', 'error')] }],
])('%s of %s, once missed, is missed', (figure, profile, findings) => {
  const missed = results([audited(profile, [1], findings)]).filter((line) => line.endsWith('missed'))
  expect(missed).toEqual([`${profile} ${figure}: missed`])
})

test('boots are compared by their medians, exactly at the limit is kept, and without the stock image nothing is', () => {
  const boots = (seconds: number[]) =>
    results([audited('none', [40, 40, 4000]), audited('baseline', seconds)]).at(-1)
  expect(boots([50, 50, 1])).toBe('baseline slower: kept')
  expect(boots([51, 51, 1])).toBe('baseline slower: missed')
  expect(results([audited('baseline', [50])])).toHaveLength(3)
})

test('a limit of one release is none of another', () => {
  const lynis = { version: '3.1.4', index: 78, warnings: [], suggestions: [] }
  const kept = (release: '12' | '13') =>
    judge(release, [audited('baseline', [1], { lynis })]).find(({ figure }) => figure === 'lynis')?.kept
  expect([kept('12'), kept('13')]).toEqual([true, false])
})

test('limits are data: both ends count', () => {
  const limits: Limit[] = [{ profile: 'none', figure: 'lynis', least: 90, most: 90 }]
  expect(judge('13', [audited('none', [1])], limits)).toEqual([{ ...limits[0], found: 90, kept: true }])
})

test('a rule that fails without a reason is printed as such', () => {
  const openscap = [rule('one', 'pass'), rule('grub2_password', 'fail'), rule('never_heard_of', 'error')]
  expect(failingRules(openscap)).toEqual([
    { ...rule('grub2_password', 'fail'), reason: expect.stringContaining('boot loader') },
    rule('never_heard_of', 'error'),
  ])
  const tools = {
    sshAudit: { version: '3.3.0-2', command: ['ssh-audit'] as const, env: {} },
    content: { version: '0.1.82-1', folder: '/x' },
  }
  const lines = formatReport('12', [audited('cis-l1', [61], { openscap })], tools).split('\n')
  expect(lines[0]).toBe('Debian 12; ssh-audit 3.3.0-2, lynis 3.0.8, OpenSCAP content 0.1.82-1')
  expect(lines.find((line) => line.startsWith('never_heard_of'))).toMatch(
    /error +Title of never_heard_of +no reason is known$/,
  )
  expect(lines.find((line) => /^cis-l1 +OpenSCAP/.test(line))).toMatch(/0\.333 +FAIL$/)
})
