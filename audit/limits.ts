import { median } from '../bench/statistics.ts'
import type { Findings } from './audit-clone.ts'
import type { Profile } from './definition.ts'
import { ratio } from './openscap.ts'
import type { Release } from './release.ts'

/** What is known of one profile: its clones' boots, and what the scanners found on one of them. */
export interface Audited {
  profile: Profile
  /** seconds from start to the first login, of each boot */
  boots: number[]
  findings: Findings
}

export interface Figure {
  what: string
  /** undefined where there is nothing to compare with */
  of(audited: Audited, stock: Audited | undefined): number | undefined
  /** digits after the point, in print */
  digits: number
}

export const FIGURES = {
  failures: {
    what: 'ssh-audit: failures',
    of: ({ findings }) => findings.sshAudit.failures.length,
    digits: 0,
  },
  warnings: {
    what: 'ssh-audit: warnings',
    of: ({ findings }) => findings.sshAudit.warnings.length,
    digits: 0,
  },
  policy: {
    what: 'ssh-audit: fields unlike its policy',
    // A policy that is not kept has errors; were it to name none, it is still not kept.
    of: ({ findings: { policy } }) => (policy.passed ? 0 : Math.max(1, policy.errors.length)),
    digits: 0,
  },
  lynis: { what: 'lynis: hardening index', of: ({ findings }) => findings.lynis.index, digits: 0 },
  openscap: {
    what: 'OpenSCAP: pass / (pass + fail + error)',
    of: ({ findings }) => ratio(findings.openscap),
    digits: 3,
  },
  boot: { what: 'boot to SSH: median seconds', of: ({ boots }) => median(boots), digits: 1 },
  slower: {
    what: 'boot to SSH: times that without hardening',
    of: ({ boots }, stock) => stock && median(boots) / median(stock.boots),
    digits: 2,
  },
} satisfies Record<string, Figure>

export interface Limit {
  /** missing: of every release */
  release?: Release
  profile: Profile
  figure: keyof typeof FIGURES
  least?: number
  most?: number
}

/**
 * What hardening must reach on a clone. On Debian 13 lynis keeps back points for what a template cannot have: partitions, a
 * boot loader password, a log server, malware scanners.
 */
export const LIMITS: readonly Limit[] = [
  { profile: 'baseline', figure: 'failures', most: 0 },
  { profile: 'baseline', figure: 'warnings', most: 0 },
  { release: '12', profile: 'baseline', figure: 'lynis', least: 75 },
  { release: '13', profile: 'baseline', figure: 'lynis', least: 79 },
  { profile: 'baseline', figure: 'slower', most: 1.25 },
  { profile: 'cis-l1', figure: 'failures', most: 0 },
  { profile: 'cis-l1', figure: 'warnings', most: 0 },
  { profile: 'cis-l1', figure: 'policy', most: 0 },
  { release: '12', profile: 'cis-l1', figure: 'lynis', least: 85 },
  { release: '13', profile: 'cis-l1', figure: 'lynis', least: 84 },
  { profile: 'cis-l1', figure: 'openscap', least: 0.95 },
]

export interface Verdict extends Limit {
  found: number
  kept: boolean
}

/** All limits of what was audited, but for those whose figure could not be measured. */
export function judge(
  release: Release,
  audits: readonly Audited[],
  limits: readonly Limit[] = LIMITS,
): Verdict[] {
  const stock = audits.find(({ profile }) => profile === 'none')
  return limits.flatMap((limit) => {
    if (limit.release !== undefined && limit.release !== release) return []
    const audited = audits.find(({ profile }) => profile === limit.profile)
    const figure: Figure = FIGURES[limit.figure]
    const found = audited && figure.of(audited, stock)
    if (found === undefined) return []
    const { least = -Infinity, most = Infinity } = limit
    return [{ ...limit, found, kept: found >= least && found <= most }]
  })
}
