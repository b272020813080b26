import type { InstalledPackage } from './pending.ts'

/** No `before`: it is new. No `after`: it is gone. */
export interface PackageChange {
  name: string
  before?: string
  after?: string
  /** what the new version mends, as far as it is known */
  cves: string[]
}

/** What is another version than before, came, or went; sorted by name. Of several architectures, those beside the first are named. */
export function packageChanges(
  before: readonly InstalledPackage[],
  after: readonly InstalledPackage[],
  cvesOf: ReadonlyMap<string, readonly string[]> = new Map(),
): PackageChange[] {
  const [old, now] = [byName(before), byName(after)]
  const names = [...new Set([...old.keys(), ...now.keys()])].sort()
  return names.flatMap((name): PackageChange[] => {
    const [was, is] = [old.get(name), now.get(name)]
    if (was?.version === is?.version) return []
    const cves = was && is ? [...(cvesOf.get(is.name) ?? [])] : []
    return [{ name, ...(was && { before: was.version }), ...(is && { after: is.version }), cves }]
  })
}

function byName(packages: readonly InstalledPackage[]): Map<string, InstalledPackage> {
  const named = new Map<string, InstalledPackage>()
  for (const one of packages) named.set(named.has(one.name) ? `${one.name}:${one.architecture}` : one.name, one)
  return named
}
