import { afterAll, beforeAll, expect, test } from 'vitest'
import { auditClone, type Findings } from '../../audit/audit-clone.ts'
import { FIGURES, LIMITS } from '../../audit/limits.ts'
import { failingRules } from '../../audit/report.ts'
import { auditTools } from '../../audit/tools.ts'
import { bootClone } from './clone.ts'
import { hardenedTemplate } from './hardened-template.ts'
import { CACHE_DIR } from './harness.ts'

/**
 * Outsiders' scanners on one clone of the shipped image with the strictest profile, against the limits of `npm run
 * audit`, which also compares profiles and boots.
 */
const PROFILE = 'cis-l1'

const resources = new AsyncDisposableStack()
let findings: Findings

beforeAll(async () => {
  const signal = AbortSignal.timeout(1_800_000)
  const tools = await auditTools({ cacheDir: CACHE_DIR, signal })
  const template = resources.use(await hardenedTemplate(PROFILE))
  const clone = resources.use(await bootClone({ template: template.vmid, vmid: 520 }))
  findings = await auditClone(clone, tools, { signal })
}, 1_900_000)
afterAll(() => resources.disposeAsync())

const limit = (figure: keyof typeof FIGURES) => {
  const found = LIMITS.find((one) => one.profile === PROFILE && one.figure === figure)
  if (found === undefined) throw new Error(`${PROFILE} has no limit for ${figure}`)
  return found
}

test('ssh-audit finds no failure and no warning', () => {
  expect(findings.sshAudit).toEqual({ failures: [], warnings: [] })
})

test('it is as ssh-audit’s own policy for a hardened Debian 12 has it', () => {
  expect(findings.policy).toEqual({ policy: 'Hardened Debian 12 (version 2)', passed: true, errors: [] })
})

test('lynis gives the index that is promised', () => {
  const { index, warnings, suggestions } = findings.lynis
  expect(index, [...warnings, ...suggestions].join('\n')).toBeGreaterThanOrEqual(limit('lynis').least ?? 0)
})

test('OpenSCAP’s CIS Level 1 profile is kept as far as is promised, and what is not has a reason', () => {
  const failing = failingRules(findings.openscap)
  const kept = FIGURES.openscap.of({ profile: PROFILE, boots: [], findings })
  expect(kept, failing.map(({ id }) => id).join('\n')).toBeGreaterThanOrEqual(limit('openscap').least ?? 0)
  expect(failing.filter(({ reason }) => reason === undefined)).toEqual([])
})
