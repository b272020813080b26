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

/** The calls of one guest. Of those used here, containers have the same as VMs, below another path. */
export function guestApi(pve: Pve, { kind, node, vmid }: GuestRef) {
  const { qemu, lxc } = pve.api.nodes.$(node)
  return kind === 'vm' ? qemu.$(vmid) : (lxc.$(vmid) as unknown as ReturnType<(typeof qemu)['$']>)
}

export interface GuestConfig {
  digest: string
  tags?: string
  description?: string
  name?: string
  template?: number | boolean
  lock?: string
  [key: string]: unknown
}

/** One line of a node's list. */
export interface GuestRow {
  kind: GuestKind
  vmid: number
  name?: string
  tags?: string
  template?: number | boolean
  lock?: string
}

/** All guests of one node, as they are at this moment. */
export async function nodeGuests(pve: Pve, node: string): Promise<GuestRow[]> {
  const { qemu, lxc } = pve.api.nodes.$(node)
  const [machines, containers] = (await Promise.all([qemu.$get(), lxc.$get()])) as Omit<GuestRow, 'kind'>[][]
  return [
    ...(machines ?? []).map((row) => ({ ...row, kind: 'vm' as const })),
    ...(containers ?? []).map((row) => ({ ...row, kind: 'lxc' as const })),
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

/** What Proxmox answers there. */
export function asClusterRows(answer: unknown): ClusterRow[] {
  const rows = answer as (ClusterRow & { type: string })[]
  for (const row of rows) row.kind = row.type === 'lxc' ? 'lxc' : 'vm'
  return rows
}

export async function readConfig(pve: Pve, guest: GuestRef): Promise<GuestConfig> {
  return (await guestApi(pve, guest).config.$get()) as unknown as GuestConfig
}
