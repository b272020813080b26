import { compareVersions } from '../../source/debian-version.ts'
import { aptValues } from './apt.ts'
import type { Manifest, Package, Port, PrivilegedFile, Sysctl } from './manifest.ts'

/** How one image differs from another. Everything is sorted by name. */
export interface Differences {
  packages: {
    added: { name: string; version: string }[]
    removed: { name: string; version: string }[]
    upgraded: PackageChange[]
    downgraded: PackageChange[]
  }
  /** sources, named `deb http://deb.debian.org/debian trixie`, and keyrings, by path */
  apt: Change[]
  sshd: Change[]
  sysctl: Change[]
  /** named `tcp 0.0.0.0:22`; the values are names of processes */
  ports: Change[]
  /** setuid, setgid and capabilities of files, by path */
  privileged: Change[]
  units: Change[]
  users: Change[]
  /** distribution and kernels */
  system: Change[]
  /** bytes; null where they are as good as equal */
  size: { before: number; after: number } | null
  /** what of it one of the two images could not tell: nothing is said about that */
  unknown: string[]
}

export interface PackageChange {
  name: string
  before: string
  after: string
}

/** `null`: not there */
export interface Change {
  name: string
  before: string | null
  after: string | null
}

/** Bytes: the same definition, built twice, differs by less (an initramfs, a cache that a package makes). */
const SIZE_TOLERANCE = 1024 * 1024

export function compareManifests(before: Manifest, after: Manifest): Differences {
  const unknown: string[] = []
  /** Where one could not tell, a list of all that the other has would be wrong. */
  const compared = <T>(what: string, of: (manifest: Manifest) => T | null, read: (value: T) => Values) => {
    const [a, b] = [of(before), of(after)]
    if (a !== null && b !== null) return changes(read(a), read(b))
    if (a !== b) unknown.push(what)
    return []
  }
  const bothReadCapabilities = before.capabilitiesRead && after.capabilitiesRead
  if (before.capabilitiesRead !== after.capabilitiesRead) unknown.push('capabilities of files')
  if ((before.packages === null) !== (after.packages === null)) unknown.push('packages')
  return {
    packages: packageChanges(before.packages, after.packages),
    apt: compared('apt sources', ({ apt }) => apt ?? null, aptValues),
    sshd: compared(
      'sshd',
      ({ sshd }) => sshd,
      (sshd) => values(Object.entries(sshd), (list) => list.join(', ')),
    ),
    sysctl: changes(...bothSysctls(before.sysctl, after.sysctl)),
    ports: compared('ports', ({ ports }) => ports, portValues),
    privileged: changes(
      privilegedValues(before.privileged, bothReadCapabilities),
      privilegedValues(after.privileged, bothReadCapabilities),
    ),
    units: compared(
      'units',
      ({ units }) => units,
      (units) => values(Object.entries(units), String),
    ),
    users: changes(userValues(before), userValues(after)),
    system: changes(systemValues(before), systemValues(after)),
    size:
      Math.abs(after.size - before.size) < SIZE_TOLERANCE ? null : { before: before.size, after: after.size },
    unknown,
  }
}

/** What a list of packages says nothing of. */
const BEYOND_PACKAGES = [
  ...['system', 'apt sources', 'sshd', 'sysctl', 'ports', 'privileged files', 'units', 'users', 'size'],
]

/**
 * The same, of what is known of one of the two by its list of packages alone.
 * @param before,after null for a system of which no packages are known
 */
export function comparePackages(before: Installed, after: Installed): Differences {
  const unknown = before === null || after === null ? ['packages', ...BEYOND_PACKAGES] : BEYOND_PACKAGES
  return {
    packages: packageChanges(before, after),
    ...{ apt: [], sshd: [], sysctl: [], ports: [], privileged: [], units: [], users: [], system: [] },
    ...{ size: null, unknown: [...unknown] },
  }
}

/** What could not be compared is not the same. */
export function isSame({ packages, size, ...rest }: Differences): boolean {
  return (
    size === null && [...Object.values(packages), ...Object.values(rest)].every((list) => list.length === 0)
  )
}

type Values = Map<string, string>

/** Packages of a manifest, or of a list, which has no others than are installed. */
export type Installed =
  | readonly (Pick<Package, 'name' | 'architecture' | 'version'> & { status?: string })[]
  | null

function values<T>(entries: readonly [string, T][], text: (value: T) => string): Values {
  return new Map(entries.map(([name, value]) => [name, text(value)]))
}

function changes(before: Values, after: Values): Change[] {
  return names(before, after)
    .map((name) => ({ name, before: before.get(name) ?? null, after: after.get(name) ?? null }))
    .filter((change) => change.before !== change.after)
}

function names(before: ReadonlyMap<string, unknown>, after: ReadonlyMap<string, unknown>): string[] {
  return [...new Set([...before.keys(), ...after.keys()])].sort()
}

export function packageChanges(before: Installed, after: Installed): Differences['packages'] {
  const changed: Differences['packages'] = { added: [], removed: [], upgraded: [], downgraded: [] }
  if (before === null || after === null) return changed
  const twice = new Set([...severalArchitectures(before), ...severalArchitectures(after)])
  const [old, now] = [versions(before, twice), versions(after, twice)]
  for (const name of names(old, now)) {
    const [a, b] = [old.get(name), now.get(name)]
    if (a === b) continue
    if (a === undefined) changed.added.push({ name, version: b as string })
    else if (b === undefined) changed.removed.push({ name, version: a })
    else changed[compareVersions(a, b) > 0 ? 'downgraded' : 'upgraded'].push({ name, before: a, after: b })
  }
  return changed
}

/** A package may change from `all` to a processor's architecture; only where it is there for two, they are told apart. */
function versions(packages: NonNullable<Installed>, twice: ReadonlySet<string>): Values {
  const installed = packages.filter(({ status }) => status !== 'config-files')
  return new Map(
    installed.map(({ name, architecture, version }) => [
      twice.has(name) ? `${name}:${architecture}` : name,
      version,
    ]),
  )
}

function severalArchitectures(packages: NonNullable<Installed>): string[] {
  const names = packages.map(({ name }) => name)
  return names.filter((name, index) => names.indexOf(name) !== index)
}

/** What the kernel said counts, where both know it; otherwise what the files say. */
function bothSysctls(before: Record<string, Sysctl>, after: Record<string, Sysctl>): [Values, Values] {
  const effective = [before, after].every((sysctls) =>
    Object.values(sysctls).some((value) => value.effective !== undefined),
  )
  const read = (sysctls: Record<string, Sysctl>) =>
    new Map(
      Object.entries(sysctls).flatMap(([key, value]): [string, string][] => {
        const shown = sysctlText(value, effective)
        return shown === undefined ? [] : [[key, shown]]
      }),
    )
  return [read(before), read(after)]
}

function sysctlText({ configured, effective }: Sysctl, isEffectiveKnown: boolean): string | undefined {
  if (!isEffectiveKnown || effective === undefined) return configured
  return configured === undefined || configured === effective
    ? effective
    : `${effective} (configured: ${configured})`
}

/** Several services at one port (a dynamic one) are one entry. */
function portValues(ports: readonly Port[]): Values {
  const found = new Map<string, string>()
  for (const { protocol, address, port, processes } of ports) {
    const name = `${protocol} ${address.includes(':') ? `[${address}]` : address}:${port}`
    const holders = processes.length === 0 ? 'kernel' : processes.join(', ')
    found.set(name, found.has(name) ? `${found.get(name)}; ${holders}` : holders)
  }
  return found
}

function privilegedValues(files: readonly PrivilegedFile[], withCapabilities: boolean): Values {
  return new Map(
    files.flatMap(({ path, mode, owner, capabilities }): [string, string][] => {
      const rights = [mode && `${mode} ${owner}`, withCapabilities ? capabilities : undefined]
      const text = rights.filter((right) => right !== undefined).join(', ')
      return text === '' ? [] : [[path, text]]
    }),
  )
}

function userValues({ users }: Manifest): Values {
  return new Map(users.map(({ name, uid, shell }) => [name, `uid ${uid}, ${shell}`]))
}

function systemValues({ distribution, kernels, kind }: Manifest): Values {
  const { id, version, name } = distribution
  return new Map([
    ['distribution', name || `${id} ${version}`],
    ...(kind === 'vm' ? [['kernels', kernels.join(', ') || 'none'] as const] : []),
  ])
}
