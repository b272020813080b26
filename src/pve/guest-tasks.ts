import type { TaskRow } from './answers.ts'
import type { Pve } from './client.ts'
import type { GuestRef } from './guest-ref.ts'

/** Tasks that are asked for at once; Proxmox gives 50 where nothing is said. */
const LIMIT = 500

/** Tasks that run on a node at this moment: all of them, or those of a guest, or of a type. */
export async function runningTasks(
  pve: Pve,
  node: string,
  { vmid, type }: { vmid?: number; type?: string } = {},
): Promise<TaskRow[]> {
  return await rows(pve, node, {
    ...{ source: 'active', limit: LIMIT },
    ...(vmid !== undefined && { vmid }),
    ...(type !== undefined && { typefilter: type }),
  })
}

/** Tasks that last as long as somebody looks at a console. */
const CONSOLES = /^(vncproxy|vncshell|spiceproxy|termproxy)$/

export function isConsole({ type }: Pick<TaskRow, 'type'>): boolean {
  return CONSOLES.test(type)
}

/** Tasks that work on a guest at this moment. Whoever looks at its console, as a build does, changes nothing. */
export async function activeTasks(pve: Pve, { node, vmid }: GuestRef): Promise<TaskRow[]> {
  return (await runningTasks(pve, node, { vmid })).filter((task) => !isConsole(task))
}

/** The latest tasks of a type that name this guest and have ended. */
export async function endedTasks(pve: Pve, { node, vmid }: GuestRef, type: string): Promise<TaskRow[]> {
  return await rows(pve, node, { vmid, typefilter: type })
}

/** The newest task of a type that names this guest, running or ended. */
export async function newestTask(
  pve: Pve,
  { node, vmid }: GuestRef,
  type: string,
): Promise<TaskRow | undefined> {
  const [row] = await rows(pve, node, { vmid, typefilter: type, source: 'all', limit: 1 })
  return row
}

interface Query {
  source?: 'active' | 'all'
  vmid?: number
  typefilter?: string
  limit?: number
}

async function rows(pve: Pve, node: string, query: Query): Promise<TaskRow[]> {
  return await pve.api.nodes.$(node).tasks.$get(query)
}
