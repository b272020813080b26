import type { ClusterGuest, GuestConfig, ListedGuest } from './answers.ts'
import type { Pve } from './client.ts'

/** As definitions say it; Proxmox's paths say `qemu` and `lxc`. */
export type GuestKind = 'vm' | 'lxc'

/** Which guest. One VMID is a VM or a container, never both. */
export interface GuestRef {
  kind: GuestKind
  node: string
  vmid: number
}

/** How people and Proxmox's own messages call it: `VM 9000`, `CT 9000`. */
export function guestLabel({ kind, vmid }: Pick<GuestRef, 'kind' | 'vmid'>): string {
  return `${kind === 'vm' ? 'VM' : 'CT'} ${vmid}`
}

/** The node's command for a guest's console. */
export function consoleCommand({ kind, vmid }: Pick<GuestRef, 'kind' | 'vmid'>): string {
  return kind === 'vm' ? `qm terminal ${vmid}` : `pct console ${vmid}`
}

/** The calls of one guest. Containers have most of a VM's, below another path. */
export function guestApi(pve: Pve, { kind, node, vmid }: GuestRef) {
  const { qemu, lxc } = pve.api.nodes.$(node)
  return kind === 'vm' ? qemu.$(vmid) : lxc.$(vmid)
}

/** A guest in a list. */
export interface GuestRow extends ListedGuest {
  kind: GuestKind
}

/** All guests of one node, as they are at this moment. */
export async function nodeGuests(pve: Pve, node: string): Promise<GuestRow[]> {
  const { qemu, lxc } = pve.api.nodes.$(node)
  const [machines, containers] = await Promise.all([qemu.$get(), lxc.$get()])
  return [
    ...machines.map((row) => ({ ...row, kind: 'vm' as const })),
    ...containers.map((row) => ({ ...row, kind: 'lxc' as const })),
  ]
}

/** One guest in the list of the cluster. */
export interface ClusterRow extends GuestRow {
  node: string
}

/**
 * All guests of the cluster, by one request. Proxmox refreshes names and `template` here only every ten seconds; tags are
 * those of this moment.
 */
export async function clusterGuests(pve: Pve): Promise<ClusterRow[]> {
  return asClusterRows(await pve.api.cluster.resources.$get({ type: 'vm' }))
}

/** What Proxmox answers there, with each guest's kind as definitions say it. */
export function asClusterRows(answer: readonly ClusterGuest[]): ClusterRow[] {
  return answer.map((row) => ({ ...row, kind: row.type === 'lxc' ? 'lxc' : 'vm' }))
}

export async function readConfig(pve: Pve, guest: GuestRef): Promise<GuestConfig> {
  return await guestApi(pve, guest).config.$get()
}
