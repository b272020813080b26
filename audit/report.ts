import { formatTable } from '../src/cli/table.ts'
import { KNOWN_FAILURES } from './known-failures.ts'
import { type Audited, FIGURES, type Figure, judge, type Verdict } from './limits.ts'
import { countResults } from './openscap.ts'
import type { Release } from './release.ts'
import type { Tools } from './tools.ts'

const NO_REASON = 'no reason is known'

/** For people: all figures side by side, the limits, and what still fails. */
export function formatReport(release: Release, audits: readonly Audited[], tools: Tools): string {
  const stock = audits.find(({ profile }) => profile === 'none')
  const profiles = audits.map(({ profile }) => profile)
  const row = (what: string, cell: (audited: Audited) => string) => ({
    what,
    ...Object.fromEntries(audits.map((audited) => [audited.profile, cell(audited)])),
  })
  const figures = Object.values(FIGURES).map((figure: Figure) =>
    row(figure.what, (audited) => figure.of(audited, stock)?.toFixed(figure.digits) ?? ''),
  )
  const rows = [
    ...figures,
    row('OpenSCAP: results', ({ findings }) =>
      Object.entries(countResults(findings.openscap))
        .map(([result, count]) => `${result} ${count}`)
        .join(', '),
    ),
    row('lynis: warnings, suggestions', ({ findings: { lynis } }) =>
      [lynis.warnings.length, lynis.suggestions.length].join(', '),
    ),
  ]
  const verdicts = judge(release, audits).map((verdict) => {
    const { what, digits }: Figure = FIGURES[verdict.figure]
    return {
      profile: verdict.profile,
      limit: `${what} ${bounds(verdict)}`,
      found: verdict.found.toFixed(digits),
      result: verdict.kept ? 'pass' : 'FAIL',
    }
  })
  const lynis = audits[0]?.findings.lynis.version
  return [
    `Debian ${release}; ssh-audit ${tools.sshAudit.version}, lynis ${lynis}, OpenSCAP content ${tools.content.version}\n\n`,
    formatTable(['what', ...profiles], rows as Record<string, string>[]),
    ...(verdicts.length > 0 ? ['\n', formatTable(['profile', 'limit', 'found', 'result'], verdicts)] : []),
    ...audits.filter(({ profile }) => profile !== 'none').map(remains),
  ].join('')
}

function bounds({ least, most }: Verdict): string {
  return least === undefined ? `<= ${most}` : `>= ${least}`
}

function remains({ profile, findings }: Audited): string {
  const { openscap, lynis, sshAudit, policy } = findings
  const rules = failingRules(openscap).map(({ id, result, reason, title }) => ({
    rule: id,
    result,
    title,
    reason: reason ?? NO_REASON,
  }))
  const lists = {
    'ssh-audit': [...sshAudit.failures, ...sshAudit.warnings],
    [[policy.policy, ...(policy.note === undefined ? [] : [policy.note])].join('; ')]: policy.errors,
    'lynis warns': lynis.warnings,
  }
  return [
    ...(rules.length > 0
      ? [`\nRules that fail with ${profile}:\n\n`, formatTable(['rule', 'result', 'title', 'reason'], rules)]
      : []),
    ...Object.entries(lists)
      .filter(([, lines]) => lines.length > 0)
      .map(([name, lines]) => `\n${name}, with ${profile}:\n${lines.map((line) => `  ${line}\n`).join('')}`),
  ].join('')
}

export interface FailingRule {
  id: string
  title: string
  result: string
  /** missing where none is known */
  reason?: string
}

/** What counts against the ratio, in OpenSCAP's order. */
export function failingRules(rules: Audited['findings']['openscap']): FailingRule[] {
  return rules
    .filter(({ result }) => result === 'fail' || result === 'error')
    .map((rule) => {
      const reason = Object.hasOwn(KNOWN_FAILURES, rule.id) ? KNOWN_FAILURES[rule.id] : undefined
      return { ...rule, ...(reason !== undefined && { reason }) }
    })
}

/** For programs: everything that was found. */
export function reportAsJson(release: Release, audits: readonly Audited[], tools: Tools): string {
  const report = {
    release,
    tools: { 'ssh-audit': tools.sshAudit.version, 'ssg-debian': tools.content.version },
    profiles: audits.map(({ profile, boots, findings }) => ({
      profile,
      boots,
      ...findings,
      openscap: { counts: countResults(findings.openscap), failing: failingRules(findings.openscap) },
    })),
    limits: judge(release, audits),
  }
  return `${JSON.stringify(report, undefined, 2)}\n`
}
