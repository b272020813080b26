import type { CloudConfig } from './cloud-config.ts'

/** cloud-init's network-config, version 2, for one network card that is known by its MAC address. */

export interface StaticNetwork {
  kind: 'static'
  /** `02:…`, any case */
  macAddress: string
  /** with prefix length: `192.0.2.10/24` */
  address: string
  gateway?: string
  dns?: readonly string[]
  searchDomains?: readonly string[]
  /** bytes */
  mtu?: number
}

export interface DhcpNetwork {
  kind: 'dhcp'
  macAddress: string
  mtu?: number
}

export type SeedNetwork = StaticNetwork | DhcpNetwork

/**
 * The card is matched by its MAC and keeps whatever name the kernel and udev give it; `build0` only names the
 * entry. A default route is written as 0.0.0.0/0, since cloud-init 22.4 cannot read `default` where it must
 * translate for a renderer other than netplan, and since netplan has deprecated `gateway4`.
 */
export function networkConfig(network: SeedNetwork): CloudConfig {
  const card: CloudConfig = { match: { macaddress: network.macAddress.toLowerCase() } }
  if (network.mtu !== undefined) card.mtu = network.mtu
  if (network.kind === 'dhcp') {
    card.dhcp4 = true
    // By default networkd identifies itself by the machine-id, which is new in every guest; a lease then follows that.
    // cloud-init hands this on to netplan only; ifupdown's dhclient sends no identifier but the MAC anyway.
    card['dhcp-identifier'] = 'mac'
  } else {
    card.addresses = [network.address]
    if (network.gateway !== undefined) {
      card.routes = [{ to: network.gateway.includes(':') ? '::/0' : '0.0.0.0/0', via: network.gateway }]
    }
    const nameservers: CloudConfig = {}
    if (network.dns?.length) nameservers.addresses = [...network.dns]
    if (network.searchDomains?.length) nameservers.search = [...network.searchDomains]
    if (Object.keys(nameservers).length > 0) card.nameservers = nameservers
    // Without IPv6 nothing has to wait until a link-local address is known to be unique (RFC 4862, a second and more).
    if (!network.address.includes(':')) card['link-local'] = []
  }
  return { version: 2, ethernets: { build0: card } }
}
