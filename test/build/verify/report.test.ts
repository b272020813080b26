import { expect, test } from 'vitest'
import {
  failedReport,
  formatReport,
  type Report,
  type Result,
  summarize,
} from '../../../src/build/verify/report.ts'

const where = { file: 'images/web/image.yaml', line: 12, column: 3 }
const results: Result[] = [
  {
    group: 'identity',
    id: 'hostname',
    title: 'each clone is called as it was told',
    sources: [],
    outcome: 'passed',
  },
  {
    group: 'leftovers',
    id: 'history',
    title: 'no shell history',
    sources: [],
    outcome: 'failed',
    found: '/root/.bash_history: 2 lines',
  },
  {
    group: 'checks',
    id: 'sshd-root',
    title: 'root has no password',
    sources: ['CIS Debian 12 5.1.20'],
    outcome: 'failed',
    found: 'permitrootlogin is yes',
  },
  {
    group: 'checks',
    id: 'checks/1',
    title: 'the site answers',
    sources: [],
    where,
    outcome: 'failed',
    found: 'exit code 7\ninstead of 0',
  },
  {
    group: 'checks',
    id: 'partitions',
    title: '/var is a partition',
    sources: ['CIS'],
    outcome: 'not-applicable',
    found: 'one disk',
  },
  { group: 'checks', id: 'aide', title: 'AIDE', sources: ['CIS'], outcome: 'excepted', found: 'elsewhere' },
  {
    group: 'certificates',
    id: 'configured-ca',
    title: 'lets in',
    sources: [],
    outcome: 'skipped',
    found: 'no signer',
  },
]
const report: Report = {
  schema: 1,
  image: 'web',
  version: '20260101.1',
  template: { kind: 'vm', node: 'pve', vmid: 9000 },
  at: '2026-01-01T00:00:00.000Z',
  seconds: 61.2,
  summary: summarize(results, 'passed', 'verified'),
  clones: [
    {
      ...{
        role: 'verify-a',
        vmid: 9001,
        name: 'ib-verify-a-web',
        mac: '02:1B:00:00:00:01',
        address: '192.0.2.7',
      },
      hostKey: { fingerprint: 'SHA256:x', trust: 'first use' },
    },
  ],
  results,
}

test('what was not asked, or cannot apply, is never counted as passed', () => {
  expect(report.summary).toEqual({
    passed: 1,
    failed: 3,
    skipped: 1,
    left: 2,
    certificates: 'passed',
    inside: 'verified',
  })
  expect(JSON.parse(JSON.stringify(report))).toEqual(report)
})

test('the error names each failed check, who asks for it, and what was found', () => {
  const error = failedReport(report)
  expect(error.code).toBe('build_failed')
  expect(error.what).toBe('web 20260101.1 is not good: 3 of 4 checks failed on its clones')
  expect(error.where).toEqual(where)
  expect(error.why).toBe(
    [
      'leftovers/history: no shell history',
      '    /root/.bash_history: 2 lines',
      'checks/sshd-root: root has no password (CIS Debian 12 5.1.20)',
      '    permitrootlogin is yes',
      'checks/checks/1: the site answers (images/web/image.yaml:12)',
      '    exit code 7',
      '    instead of 0',
    ].join('\n'),
  )
})

test('many failures are cut short', () => {
  const failed = results[1] as Result
  const many = Array.from({ length: 25 }, (_, n) => ({ ...failed, id: `f${n}` }))
  expect(failedReport({ ...report, results: many }).why).toMatch(/leftovers\/f19: [\s\S]*\nand 5 more$/)
})

test('people see each result, what was found where it is not well, and whose word the host key is', () => {
  const text = formatReport(report)
  expect(text).toContain('verify-a: 9001, 192.0.2.7 (02:1B:00:00:00:01), host key SHA256:x by first use')
  expect(text).toContain(
    '  FAILED  sshd-root  root has no password  [CIS Debian 12 5.1.20]\n            permitrootlogin is yes',
  )
  expect(text).toContain('  n/a     partitions  /var is a partition  [CIS]\n            one disk')
  expect(text.endsWith('\n')).toBe(true)
})
