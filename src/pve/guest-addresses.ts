import type { Pve } from './client.ts'
import { type GuestRef, guestApi } from './guest-ref.ts'

/** A network card as the guest agent and the node tell it. */
interface Card {
  'hardware-address'?: string
  'ip-addresses'?: { 'ip-address': string; 'ip-address-type': string }[]
}

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

async function agentCards(pve: Pve, guest: GuestRef): Promise<Card[]> {
  const answer = await guestApi(pve, guest).agent['network-get-interfaces'].$get()
  // The library's type of the agent's answers says nothing of what is in them.
  return (answer as unknown as { result: Card[] }).result
}

async function containerCards(pve: Pve, { node, vmid }: GuestRef): Promise<Card[]> {
  const { lxc } = pve.api.nodes.$(node)
  return ((await lxc.$(vmid).interfaces.$get()) as Card[] | null) ?? []
}
