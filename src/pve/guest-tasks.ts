import type { Pve } from './client.ts'
import type { GuestRef } from './guest-ref.ts'

/** A row of a node's task list. */
export interface TaskRow {
  upid: string
  type: string
  /** `user@realm`, or `user@realm!tokenid` */
  user: string
  /** missing while it runs */
  status?: string
}

/** Tasks that work on a guest at this moment. Who has no `Sys.Audit` sees only those of the same user. */
export async function activeTasks(pve: Pve, { node, vmid }: GuestRef): Promise<TaskRow[]> {
  const rows = await pve.api.nodes.$(node).tasks.$get({ vmid, source: 'active' })
  return rows as unknown as TaskRow[]
}

/** The newest task of a type that names this guest, running or ended. */
export async function newestTask(
  pve: Pve,
  { node, vmid }: GuestRef,
  type: string,
): Promise<TaskRow | undefined> {
  const query = { vmid, typefilter: type, source: 'all', limit: 1 } as const
  const [row] = (await pve.api.nodes.$(node).tasks.$get(query)) as unknown as TaskRow[]
  return row
}
