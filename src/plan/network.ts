import { createHash } from 'node:crypto'
import { canonicalJson, choose } from './identity.ts'

/**
 * Who a temporary guest is on the network. Everything is derived, nothing is remembered, so that every
 * runner comes to the same answer and a router's ARP cache or a DHCP server's leases are never surprised:
 *
 * - with an address pool, an address is chosen by hash of (namespace, image, role) and the MAC is a function
 *   of (namespace, address): the two appear together, whoever uses them
 * - with DHCP, the MAC is a function of (namespace, image, role, nic)
 *
 * A MAC is `macPrefix` (one to three bytes, locally administered and unicast: the low bits of the first are 10), and
 * then as many bytes of SHA-256 as are missing. With the default of two bytes that leaves 32 bits: among n MACs two
 * are the same with a chance of about n²/2·2⁻³², 1 in 8,600 for 1,000 of them and 1 in 860,000 for 100. With three
 * bytes of prefix 24 bits are left: 1 in 34 for 1,000, 1 in 3,400 for 100. A longer prefix buys recognition with that.
 */

export const ROLES = ['build', 'verify-a', 'verify-b'] as const
export type Role = (typeof ROLES)[number]

/** A role of an image that is built on several nodes: on all but the first, the node is part of it. */
export type RoleName = Role | `${Role}@${string}`

export function roleOn(role: Role, node: string | undefined): RoleName {
  return node === undefined ? role : `${role}@${node}`
}

export interface AddressPool {
  /** first and last address, both usable */
  first: string
  last: string
  /** length of the network prefix in bits */
  prefix: number
  gateway: string
}

export interface Identity {
  mac: string
  /** missing: the guest asks DHCP */
  address?: string
}

/** Upper-case MAC: the bytes of `prefix`, then bytes of SHA-256 over the parts. */
function macFrom(prefix: string, parts: readonly string[]): string {
  const head = prefix.split(':').map((byte) => Number.parseInt(byte, 16))
  const hash = createHash('sha256').update(canonicalJson(parts)).digest()
  const bytes = [...head, ...hash.subarray(0, 6 - head.length)]
  return bytes.map((byte) => byte.toString(16).padStart(2, '0').toUpperCase()).join(':')
}

export function macOfAddress(namespace: string, macPrefix: string, address: string): string {
  return macFrom(macPrefix, ['mac-of-address', namespace, address])
}

export function macOfRole(
  namespace: string,
  macPrefix: string,
  image: string,
  role: RoleName,
  nic = 'net0',
): string {
  return macFrom(macPrefix, ['mac-of-role', namespace, image, role, nic])
}

/**
 * The identities that a guest may take, in the order of preference. A caller whose first choice is in use
 * moves on to the next *pair* of address and MAC. By DHCP there is one only.
 */
export function* identities(
  who: { namespace: string; image: string; role: RoleName; macPrefix: string },
  pool: AddressPool | undefined,
): Generator<Identity> {
  if (pool === undefined) {
    yield { mac: macOfRole(who.namespace, who.macPrefix, who.image, who.role) }
    return
  }
  const first = addressToNumber(pool.first)
  const count = addressToNumber(pool.last) - first + 1
  const start = choose(count, 'slot', who.namespace, who.image, who.role)
  for (let offset = 0; offset < count; offset += 1) {
    const address = numberToAddress(first + ((start + offset) % count))
    if (address === pool.gateway) continue
    yield { address, mac: macOfAddress(who.namespace, who.macPrefix, address) }
  }
}

/** The first choice of each role: no two the same. What a build gets where nothing is in use. */
export function preferredIdentities(
  who: { namespace: string; image: string; macPrefix: string },
  pool: AddressPool | undefined,
  roles: readonly RoleName[],
): Identity[] {
  const taken = new Set<string>()
  return roles.flatMap((role) => {
    const first = identities({ ...who, role }, pool).find(({ mac }) => !taken.has(mac))
    if (first !== undefined) taken.add(first.mac)
    return first ?? []
  })
}

export function addressToNumber(address: string): number {
  return address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0)
}

export function numberToAddress(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join('.')
}
