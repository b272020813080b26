import { closest } from '../core/did-you-mean.ts'
import { ImagebuildError, type SourceLocation } from '../core/errors.ts'
import { type Checksum, formatChecksum } from './checksum.ts'
import type { Architecture } from './context.ts'
import { compareVersions } from './debian-version.ts'

/** A row of Proxmox's `GET /nodes/{node}/aplinfo`, as far as it matters here. */
export interface ApplianceRow {
  /** the file's name: `debian-12-standard_12.7-1_amd64.tar.zst` */
  template: string
  /** `debian-12-standard` */
  package: string
  version: string
  architecture?: string
  /** `lxc`; very old lists have `openvz` */
  type?: string
  section?: string
  sha512sum?: string
  md5sum?: string
  /** the address that the node downloads it from */
  location?: string
}

export interface ResolvedAppliance {
  /** what `POST /nodes/{node}/aplinfo` and the storage call it */
  template: string
  version: string
  /** missing where the list has only an MD5 sum; the node checks that one when it downloads */
  checksum?: Checksum
  /** what goes into a definition's digest */
  identity: string
}

/**
 * The appliance that is meant: the newest version of a package (`debian-12-standard`), or one version of it by
 * the name of its file, with or without architecture and ending.
 * @param rows as Proxmox answers: signed lists of Proxmox and TurnKey that `pveam update` has brought to the node
 * @throws ImagebuildError `not_found`
 */
export function findAppliance(
  rows: readonly ApplianceRow[],
  wanted: string,
  arch: Architecture,
  at: { node: string; where: SourceLocation },
): ResolvedAppliance {
  const archives = rows.filter((row) => row.type === undefined || row.type === 'lxc')
  if (archives.length === 0) {
    throw notFound(at, {
      what: `${at.node} has no list of appliances`,
      next: `on ${at.node}, as root: pveam update`,
    })
  }
  const named = archives.filter((row) => namesOf(row).includes(wanted))
  const found = named
    .filter((row) => (row.architecture ?? arch) === arch)
    .sort((a, b) => compareVersions(b.version, a.version))[0]
  if (found !== undefined) return resolved(found)
  if (named.length > 0) {
    const others = [...new Set(named.map((row) => row.architecture))].join(', ')
    throw notFound(at, {
      what: `there is no appliance ${wanted} for ${arch}`,
      why: `the list of ${at.node} has it for ${others}`,
      next: 'write its `architecture`, or choose another appliance',
    })
  }
  const update = `if it is newer than the list, on ${at.node}, as root: pveam update`
  const siblings = archives.filter((row) => wanted.startsWith(`${row.package}_`))
  if (siblings.length > 0) {
    const versions = siblings.map((row) => row.template).sort()
    throw notFound(at, {
      what: `there is no appliance ${wanted}`,
      why: `of ${siblings[0]?.package}, the list of ${at.node} has ${versions.join(', ')}`,
      next: `write \`appliance: ${siblings[0]?.package}\` for the newest one; ${update}`,
    })
  }
  const system = archives.filter((row) => row.section === 'system')
  const guess = closest(
    wanted,
    archives.map((row) => (wanted.includes('_') ? row.template : row.package)),
  )
  const known = [...new Set(system.map((row) => row.package))].sort().join(', ')
  throw notFound(at, {
    what: `there is no appliance ${wanted}`,
    why: `the list of ${at.node} does not have it`,
    next: `${guess === undefined ? `systems there: ${known}` : `did you mean \`${guess}\`?`}\n${update}`,
  })
}

/** All that an appliance may be called: `debian-12-standard_12.7-1_amd64.tar.zst`, less and less of it. */
function namesOf({ template, package: name, version, architecture }: ApplianceRow): string[] {
  const bare = template.replace(/\.tar(\.(gz|xz|zst))?$/, '')
  return [name, `${name}_${version}`, `${name}_${version}_${architecture}`, bare, template]
}

function resolved({ template, version, sha512sum }: ApplianceRow): ResolvedAppliance {
  if (!/^[0-9a-f]{128}$/i.test(sha512sum ?? ''))
    return { template, version, identity: `appliance:${template}` }
  const checksum: Checksum = { algorithm: 'sha512', value: (sha512sum as string).toLowerCase() }
  return { template, version, checksum, identity: formatChecksum(checksum) }
}

function notFound(
  { where }: { where: SourceLocation },
  facts: { what: string; why?: string; next: string },
): ImagebuildError {
  return new ImagebuildError({ code: 'not_found', where, ...facts })
}
