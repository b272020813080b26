import { lookup as resolve } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'

/**
 * Addresses that are nobody's on the Internet: this machine, its networks, what answers on link-local addresses (a cloud's
 * metadata server). From IANA's registries of special-purpose addresses.
 */
const PRIVATE = new BlockList()
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
] as const) {
  PRIVATE.addSubnet(network, bits, 'ipv4')
  // The same network as NAT64 (RFC 6052) and 6to4 (RFC 3056) write it: their gateways lead to it.
  const [a = 0, b = 0, c = 0, d = 0] = network.split('.').map(Number)
  const groups = [a * 256 + b, c * 256 + d].map((group) => group.toString(16)).join(':')
  PRIVATE.addSubnet(`64:ff9b::${groups}`, 96 + bits, 'ipv6')
  PRIVATE.addSubnet(`2002:${groups}::`, 16 + bits, 'ipv6')
}
for (const [network, bits] of [
  ['::', 96],
  ['64:ff9b:1::', 48],
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
] as const)
  PRIVATE.addSubnet(network, bits, 'ipv6')

/** @param host as it stands in a URL: an IPv4 address, an IPv6 address in brackets, or a name, which says nothing yet */
export function isPrivateHost(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, '$1')
  return isIP(address) !== 0 && isPrivateAddress(address)
}

function isPrivateAddress(address: string): boolean {
  return PRIVATE.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

/**
 * Resolves a name as Node does, and looks at the very addresses that are connected to: a name may mean another address
 * each time it is asked for.
 * @param refuse the error for a private address, or undefined where one is allowed
 */
export function judgingLookup(refuse: (address: string) => Error | undefined): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      const [first] = addresses ?? []
      if (error !== null || first === undefined) {
        callback(error ?? new Error(`${hostname} has no address`), [])
        return
      }
      const hidden = addresses.find(({ address }) => isPrivateAddress(address))
      const refusal = hidden && refuse(hidden.address)
      if (refusal) callback(refusal, [])
      else if (options.all) callback(null, addresses)
      else callback(null, first.address, first.family)
    })
  }
}
