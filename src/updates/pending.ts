import { compareVersions } from '../source/debian-version.ts'
import type { PackageIndex } from './package-index.ts'
import type { Offer } from './packages-file.ts'
import { suiteKey } from './suite.ts'

/** A package as a manifest, or a list of packages that was committed, names it. */
export interface InstalledPackage {
  name: string
  version: string
  architecture: string
  source: string
  sourceVersion: string
  /** as dpkg calls it; what is not `installed` gets no update. Installed unless given. */
  status?: string
}

export interface PendingUpdate {
  package: string
  architecture: string
  installed: string
  /** the newest that there is, and the suite that has it: where two have the same, the one for security */
  available: string
  suite: string
  /** whether a security suite has a newer one than is installed, be it the newest or not */
  isSecurity: boolean
  source: { name: string; installed: string; available: string }
}

/**
 * What the suites have newer than what is installed, sorted by name.
 * @param architecture of the machine: what is for all of them may become its own, and the other way round
 */
export function pendingUpdates(
  installed: readonly InstalledPackage[],
  indexes: readonly PackageIndex[],
  architecture: string,
): PendingUpdate[] {
  const pending: PendingUpdate[] = []
  for (const one of installed) {
    if ((one.status ?? 'installed') !== 'installed') continue
    const own = one.architecture === 'all' ? architecture : one.architecture
    const newer = indexes.flatMap(({ suite, offers }) =>
      (offers.get(one.name) ?? [])
        .filter((offer) => offer.architecture === own || offer.architecture === 'all')
        .filter(({ version }) => compareVersions(version, one.version) > 0)
        .map((offer) => ({ offer, suite })),
    )
    const newest = newer.reduce<(typeof newer)[number] | undefined>((best, next) => {
      if (best === undefined) return next
      const order = compareVersions(next.offer.version, best.offer.version)
      return order > 0 || (order === 0 && next.suite.isSecurity && !best.suite.isSecurity) ? next : best
    }, undefined)
    if (newest === undefined) continue
    const { version, source, sourceVersion }: Offer = newest.offer
    pending.push({
      ...{ package: one.name, architecture: one.architecture, installed: one.version, available: version },
      suite: newest.suite.suite,
      isSecurity: newer.some(({ suite }) => suite.isSecurity),
      source: { name: source, installed: one.sourceVersion, available: sourceVersion },
    })
  }
  return pending.sort((a, b) => order(a.package, b.package) || order(a.architecture, b.architecture))
}

const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

/** The newest dates of the suites, to be kept and given as `lastSeen` the next time. */
export function datesSeen(indexes: readonly PackageIndex[]): Record<string, string> {
  return Object.fromEntries(
    indexes
      .map(({ suite, date }) => [suiteKey(suite), date.toISOString()] as const)
      .sort(([a], [b]) => order(a, b)),
  )
}
