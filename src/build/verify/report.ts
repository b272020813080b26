import { type ErrorFacts, ImagebuildError, type SourceLocation } from '../../core/errors.ts'

/** What looking into the clones of a template has shown. Kept as JSON: other versions of imagebuild read it. */
export interface Report {
  schema: 1
  image: string
  version: string
  template: { kind: 'vm' | 'lxc'; node: string; vmid: number }
  /** ISO 8601, UTC */
  at: string
  seconds: number
  summary: Summary
  clones: CloneFacts[]
  results: Result[]
}

/** What the template's note keeps of it. */
export interface Summary {
  passed: number
  failed: number
  /** what was not asked: never counted as passed */
  skipped: number
  /** what cannot apply, or is switched off by the definition with a reason */
  left: number
  certificates: 'passed' | 'failed' | 'not configured' | 'not verified'
  /** whether anybody got in to look */
  inside: 'verified' | 'not verified'
}

export interface CloneFacts {
  role: 'verify-a' | 'verify-b'
  vmid: number
  name: string
  mac: string
  address: string
  /** `SHA256:…`, and who says that it is the clone's: its guest agent, over Proxmox; or whoever answered first */
  hostKey: { fingerprint: string; trust: 'guest agent' | 'first use' }
  /** why nobody could look into it */
  outside?: string
}

export const GROUPS = ['boot', 'identity', 'leftovers', 'health', 'certificates', 'checks'] as const
export type Group = (typeof GROUPS)[number]

export interface Result {
  group: Group
  /** unique within its group */
  id: string
  title: string
  sources: readonly string[]
  where?: SourceLocation
  /**
   * `not-applicable`: no such machine can have it; `excepted`: the definition does without; `inherited`: it would, but an
   * image that it is built on has applied it
   */
  outcome: 'passed' | 'failed' | 'skipped' | 'not-applicable' | 'excepted' | 'inherited'
  /** what was found, or why nobody asked */
  found?: string
}

export function summarize(
  results: readonly Result[],
  certificates: Summary['certificates'],
  inside: Summary['inside'],
): Summary {
  const count = (...outcomes: Result['outcome'][]) =>
    results.filter(({ outcome }) => outcomes.includes(outcome)).length
  return {
    passed: count('passed'),
    failed: count('failed'),
    skipped: count('skipped'),
    left: count('not-applicable', 'excepted', 'inherited'),
    certificates,
    inside,
  }
}

const SIGNS = {
  passed: 'ok    ',
  failed: 'FAILED',
  skipped: '-     ',
  'not-applicable': 'n/a   ',
  excepted: 'except',
  inherited: 'kept  ',
}

/** For people, without colours: one line for each result, what failed with what was found. */
export function formatReport(report: Report): string {
  const { image, version, template, summary, clones, results, at, seconds } = report
  const lines = [
    `${image} ${version}, ${template.kind === 'vm' ? 'VM' : 'CT'} ${template.vmid} on ${template.node}, verified on clones ${at} in ${seconds.toFixed(0)} s`,
    `${summary.passed} passed, ${summary.failed} failed, ${summary.skipped} not asked, ${summary.left} not applicable or excepted`,
    `certificates: ${summary.certificates}`,
    `inside: ${summary.inside}`,
    ...clones.map(
      ({ role, vmid, address, mac, hostKey, outside }) =>
        `${role}: ${vmid}, ${address} (${mac}), host key ${hostKey.fingerprint} by ${hostKey.trust}${outside === undefined ? '' : `; seen from outside: ${outside}`}`,
    ),
  ]
  for (const group of GROUPS) {
    const own = results.filter((result) => result.group === group)
    if (own.length > 0) lines.push('', `${group}`)
    for (const [index, result] of own.entries()) {
      const asked = result.sources.join('; ')
      // The checks of one hardening item stand together, and are asked for by the same.
      const told = asked === own[index - 1]?.sources.join('; ')
      const sources = asked === '' || told ? '' : `  [${asked}]`
      lines.push(`  ${SIGNS[result.outcome]}  ${result.id}  ${result.title}${sources}`)
      if (result.outcome !== 'passed' && result.found !== undefined)
        lines.push(...result.found.split('\n').map((line) => `            ${line}`))
    }
  }
  return `${lines.join('\n')}\n`
}

/** Results that one error names; all of them are in the report. */
const NAMED_AT_MOST = 20

/** A template that must not be used. */
export class ChecksFailed extends ImagebuildError {
  /** `group/id` of each failed one */
  readonly checks: readonly string[]

  constructor(checks: readonly string[], facts: ErrorFacts) {
    super(facts)
    this.checks = checks
  }
}

/** The error of a template that must not be used, naming each failed check with its source and what was found. */
export function failedReport(report: Report): ImagebuildError {
  const failed = report.results.filter(({ outcome }) => outcome === 'failed')
  const named = failed.slice(0, NAMED_AT_MOST).map(describe)
  if (failed.length > named.length) named.push(`and ${failed.length - named.length} more`)
  const where = failed.find((result) => result.where !== undefined)?.where
  const checks = failed.map(({ group, id }) => `${group}/${id}`)
  return new ChecksFailed(checks, {
    code: 'build_failed',
    what: `${report.image} ${report.version} is not good: ${failed.length} of ${report.summary.passed + failed.length} checks failed on its clones`,
    ...(where && { where }),
    why: named.join('\n'),
    next: `mend the definition${failed.some(isHardening) ? ', or switch the item off with a reason: hardening.except' : ''}; --on-error keep leaves the template for you to look into`,
  })
}

/** The definition's own checks have a place in it, and nobody else who asks for them. */
function isHardening({ group, sources }: Result): boolean {
  return group === 'checks' && sources.length > 0
}

function describe({ group, id, title, sources, where, found }: Result): string {
  const asks = sources.length > 0 ? sources.join('; ') : where && `${where.file}:${where.line}`
  const about = `${group}/${id}: ${title}${asks === undefined ? '' : ` (${asks})`}`
  return found === undefined ? about : `${about}\n${found.replaceAll(/^/gm, '    ')}`
}
