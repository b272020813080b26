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
 * What the card is called, as Proxmox calls it in the drives that it makes itself. Only netplan can do without:
 * for networkd, ifupdown and NetworkManager cloud-init writes a name down, and up to 22.1 that was the entry's.
 */
const NAME = 'eth0'

/**
 * The card is found by its MAC, waited for and renamed by cloud-init before any renderer's daemon starts
 * (https://docs.cloud-init.io, "Networking config Version 2"). A default route is written as 0.0.0.0/0, since
 * cloud-init 22.4 cannot read `default` where it must translate for a renderer other than netplan, and since netplan
 * has deprecated `gateway4`.
 *
 * What becomes of it in cloud-init 20.4 to 25.1:
 *
 * - netplan gets it as it is.
 * - networkd gets no `dhcp-identifier`, and nothing of a seed is there before networkd asks for its lease: a guest
 *   built in an image with that renderer has a lease for each machine-id. Sealing changes that for its clones.
 * - ifupdown: dhclient sends no identifier, so that the MAC counts. The default route needs `route`, for which
 *   `userData` makes up; name servers need resolvconf.
 * - NetworkManager gets no `dhcp-identifier`, and identifies by its own default.
 */
export function networkConfig(network: SeedNetwork): CloudConfig {
  const card: CloudConfig = { match: { macaddress: network.macAddress.toLowerCase() }, 'set-name': NAME }
  if (network.mtu !== undefined) card.mtu = network.mtu
  if (network.kind === 'dhcp') {
    card.dhcp4 = true
    // By default networkd identifies itself by the machine-id, which is new in every guest; a lease then follows that.
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
  return { version: 2, ethernets: { [NAME]: card } }
}
