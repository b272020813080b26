import type { NetworkCard } from './answers.ts'
import type { Pve } from './client.ts'
import type { GuestRef } from './guest-ref.ts'

/**
 * The IPv4 addresses of the card with this MAC, link-local ones left out; undefined while nobody can tell them. A
 * guest may have others: Docker's bridge, say, before DHCP has answered.
 */
export async function addressesOf(pve: Pve, guest: GuestRef, mac: string): Promise<string[] | undefined> {
  const cards = await (guest.kind === 'vm' ? agentCards(pve, guest) : containerCards(pve, guest)).catch(
    () => undefined,
  )
  return cards
    ?.filter((card) => card['hardware-address']?.toLowerCase() === mac.toLowerCase())
    .flatMap((card) => card['ip-addresses'] ?? [])
    .filter((entry) => /^(ipv4|inet)$/.test(entry['ip-address-type']))
    .map((entry) => entry['ip-address'])
    .filter((address) => !address.startsWith('169.254.'))
}

async function agentCards(pve: Pve, { node, vmid }: GuestRef): Promise<NetworkCard[]> {
  const { agent } = pve.api.nodes.$(node).qemu.$(vmid)
  return (await agent['network-get-interfaces'].$get()).result
}

async function containerCards(pve: Pve, { node, vmid }: GuestRef): Promise<NetworkCard[]> {
  return (await pve.api.nodes.$(node).lxc.$(vmid).interfaces.$get()) ?? []
}
