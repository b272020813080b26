import pLimit from 'p-limit'
import type { GuestConfig } from './answers.ts'
import { isStale, tellsTime } from './claim-judged.ts'
import type { Pve } from './client.ts'
import { configIfThere } from './destroy.ts'
import { PveError } from './errors.ts'
import { clusterGuests, type GuestRef, guestLabel, nodeGuests, readConfig } from './guest-ref.ts'
import { fromTags, type Marks } from './marks.ts'

/** Who in the cluster has which address: by our own tags, and by the configuration of all guests that one may see. */

/** Requests at a time; Proxmox's own interface asks about as many. */
const AT_ONCE = 8

/** A guest of ours with the addresses in its tags. */
export interface AddressHolder {
  guest: GuestRef
  label: string
  marks: Marks
  /** `ib-address-…`: nobody else may take them */
  addresses: string[]
  /** `ib-wants-…`, on claims: about to be taken, if nobody else is first */
  wants: string[]
}

/** What a configuration says of a guest's network cards. */
export interface GuestCards {
  guest: GuestRef
  /** `VM 104 (web)` */
  label: string
  /** upper case */
  macs: string[]
  /** IPv4 */
  addresses: string[]
}

export function addressTags({
  addresses,
  wants,
}: {
  addresses: readonly string[]
  wants: readonly string[]
}): string[] {
  return [
    ...addresses.map((address) => `ib-address-${address}`),
    ...wants.map((address) => `ib-wants-${address}`),
  ]
}

export function readAddressTags(tags: readonly string[]): { addresses: string[]; wants: string[] } {
  const after = (prefix: string) =>
    tags.filter((tag) => tag.startsWith(prefix)).map((tag) => tag.slice(prefix.length))
  return { addresses: after('ib-address-'), wants: after('ib-wants-') }
}

/**
 * All guests of ours that hold or want an address, of whatever namespace. Every node is asked itself: its list is
 * true at this moment, the cluster's is some seconds old. A claim whose run is gone holds nothing.
 */
export async function addressHolders(pve: Pve): Promise<AddressHolder[]> {
  const limit = pLimit(AT_ONCE)
  const nodes = await onlineNodes(pve)
  const lists = await Promise.all(
    nodes.map((node) =>
      limit(async () => {
        const rows = await nodeGuests(pve, node).catch((error) => {
          if (error instanceof PveError && error.passing) return [] // went down this moment
          throw error
        })
        return rows.map((row) => ({ ...row, node }))
      }),
    ),
  )
  const holders = lists.flat().flatMap(({ kind, node, vmid, name, tags }): AddressHolder[] => {
    const marks = fromTags(vmid, tags)
    const found = readAddressTags((tags ?? '').split(/[;, ]/))
    if (marks === undefined || found.addresses.length + found.wants.length === 0) return []
    const guest = { kind, node, vmid }
    return [{ guest, label: labelOf(guest, name), marks, ...found }]
  })
  const gone = await Promise.all(
    holders.map((holder) => limit(async () => holder.marks.state === 'claim' && (await isGone(pve, holder)))),
  )
  return holders.filter((_, index) => !gone[index])
}

/** Whether nobody works under this claim any more. Most of them say in their tags that somebody does. */
async function isGone(pve: Pve, { guest, marks: { expires } }: AddressHolder): Promise<boolean> {
  if (tellsTime(pve, expires) && !pve.clock.isOver(expires)) return false
  const config = await configIfThere(pve, guest)
  return config === undefined || (await isStale(pve, { ...guest, config }))
}

/**
 * The network cards of all guests whose configuration may be read, running or not. Templates have none that is
 * ever plugged in; their configurations say that they are templates, since the cluster's list has what was at a VMID up
 * to ten seconds ago. Who may not be looked at is left out: that is no error, there are probes for the rest.
 */
export async function readCards(pve: Pve): Promise<GuestCards[]> {
  const limit = pLimit(AT_ONCE)
  const [nodes, guests] = await Promise.all([onlineNodes(pve), clusterGuests(pve)])
  const cards = await Promise.all(
    guests
      .filter(({ node }) => nodes.includes(node))
      .map((row) =>
        limit(async () => {
          const guest = { kind: row.kind, node: row.node, vmid: row.vmid }
          const config = await readConfig(pve, guest).catch((error) => {
            if (error instanceof PveError && (error.status === 403 || error.isMissing || error.passing))
              return undefined
            throw error
          })
          if (config === undefined || config.template) return undefined
          return { guest, label: labelOf(guest, row.name), ...cardsOf(config) }
        }),
      ),
  )
  return cards.filter((found) => found !== undefined)
}

/** VMs have `net0: virtio=<mac>,…` and `ipconfig0: ip=<address>/24,…`, containers `net0: …,hwaddr=<mac>,ip=<address>/24`. */
export function cardsOf(config: GuestConfig): { macs: string[]; addresses: string[] } {
  const macs: string[] = []
  const addresses: string[] = []
  for (const [key, value] of Object.entries(config)) {
    if (!/^(net|ipconfig)\d+$/.test(key)) continue
    for (const part of String(value).split(',')) {
      const [, name = '', text = ''] = /^([^=]+)=(.*)$/.exec(part) ?? []
      if (key.startsWith('net') && /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text)) macs.push(text.toUpperCase())
      else if (name === 'ip' && /^\d+(\.\d+){3}(\/|$)/.test(text)) addresses.push(text.replace(/\/.*/, ''))
    }
  }
  return { macs, addresses }
}

function labelOf(guest: GuestRef, name: string | undefined): string {
  return name === undefined ? guestLabel(guest) : `${guestLabel(guest)} (${name})`
}

/** Asking a node that is down takes long, and whatever is on it does not run. */
async function onlineNodes(pve: Pve): Promise<string[]> {
  const nodes = await pve.api.nodes.$get()
  return nodes.filter(({ status }) => status !== 'offline').map(({ node }) => node)
}
