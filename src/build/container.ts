import type { LxcSpec } from '../definition/spec.ts'
import type { Identity } from '../plan/network.ts'
import type { CreateParameters } from '../pve/guest.ts'
import type { Place } from '../pve/place.ts'

/** Proxmox's parameters for a container: what it is built with, and what its template has. */

/** The user that builds log in as: Proxmox gives its key to nobody else. */
export const CONTAINER_USER = 'root'

/**
 * While somebody may have to be told why it does not come up: Proxmox's console is /dev/console then, where the boot's messages
 * go, and not a terminal with a login.
 */
export const ON_CONSOLE = { cmode: 'console' } as const

const GIB = 2 ** 30

function hardwareParameters({ hardware }: LxcSpec): CreateParameters {
  return { cores: hardware.cores, memory: hardware.memory, swap: hardware.swap }
}

/** `net0`, with the identity of a build, or by DHCP with a MAC of Proxmox's choice. */
export function containerCard(place: Place, identity?: Identity): string {
  const { address, mac } = identity ?? {}
  const pool = place.addresses
  const ip =
    address === undefined || pool === undefined
      ? 'ip=dhcp'
      : `ip=${address}/${pool.prefix},gw=${pool.gateway}`
  return [
    'name=eth0',
    `bridge=${place.bridge}`,
    ...(mac === undefined ? [] : [`hwaddr=${mac}`]),
    ip,
    ...(place.vlan === undefined ? [] : [`tag=${place.vlan}`]),
  ].join(',')
}

/** `nesting=1,mount=nfs;cifs`; undefined where the definition wants none. */
export function featuresParameter({ features }: LxcSpec): string | undefined {
  const { mount, ...switches } = features
  const on = [
    ...Object.entries(switches).flatMap(([name, wanted]) => (wanted ? [`${name}=1`] : [])),
    ...(mount === undefined ? [] : [`mount=${mount.join(';')}`]),
  ]
  return on.length === 0 ? undefined : on.join(',')
}

export interface BuildContainer {
  image: LxcSpec
  place: Place
  identity: Identity
  /** volume id of the archive that it is made from */
  archive: string
  /** public key line that root accepts */
  authorizedKey: string
}

/** While it is being built. */
export function containerParameters(container: BuildContainer): CreateParameters {
  const { image, place, identity, archive, authorizedKey } = container
  const features = featuresParameter(image)
  return {
    ...hardwareParameters(image),
    ...(image.build.cores !== undefined && { cores: image.build.cores }),
    ...(image.build.memory !== undefined && { memory: image.build.memory }),
    ostemplate: archive,
    hostname: image.name,
    rootfs: `${place.storages.disks}:${image.hardware.rootfs / GIB}`,
    arch: image.source.architecture,
    unprivileged: image.unprivileged,
    ...(features !== undefined && { features }),
    ...ON_CONSOLE,
    net0: containerCard(place, identity),
    ...(identity.address !== undefined && place.dns.length > 0 && { nameserver: place.dns.join(' ') }),
    'ssh-public-keys': authorizedKey,
    ...(place.pool !== undefined && { pool: place.pool }),
  }
}

/** What consumers get: the definition's hardware, and a network card without our MAC and address. */
export function containerTemplateParameters(image: LxcSpec, place: Place, name: string): CreateParameters {
  return { ...hardwareParameters(image), hostname: name, net0: containerCard(place) }
}
