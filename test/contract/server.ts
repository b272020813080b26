import type { Client } from './client.ts'
import { isOwnPool, isOwnVmid, isOwnVolume, type Own, ownUser } from './own.ts'

/** A server on which the suite is a guest among others. */
export interface Server {
  own: Own
  /** a privileged token */
  client: Client
  /** a ticket of root@pam, which alone may take off a lock */
  root: Client | undefined
  nodes: readonly string[]
  storages: readonly string[]
}

export interface Found {
  kind: 'qemu' | 'lxc'
  node: string
  vmid: number
  template?: number
  status?: string
}

export interface Volume {
  node: string
  storage: string
  volid: string
}

/** How often a list is asked for while others create and remove guests: Proxmox answers 500 now and then. */
const LIST_TRIES = 10

/** @throws an Error with the server's own words where it has none of the data */
export async function read<T>(client: Client, path: string): Promise<T> {
  for (let tries = 1; ; tries++) {
    const reply = await client.get(path)
    if (reply.status === 200) return reply.body.data as T
    if (tries === LIST_TRIES) throw new Error(`GET ${path}: ${reply.status} ${reply.reason}`)
    await pause()
  }
}

export const pause = () => new Promise((resolve) => setTimeout(resolve, 200))

/** All guests in the suite's range of VMIDs. */
export async function guestsInRange({ own, client, nodes }: Server): Promise<Found[]> {
  const lists = nodes.flatMap((node) =>
    (['qemu', 'lxc'] as const).map(async (kind) =>
      (await read<Omit<Found, 'kind' | 'node'>[]>(client, `/nodes/${node}/${kind}`)).map((guest) => ({
        ...guest,
        vmid: Number(guest.vmid),
        kind,
        node,
      })),
    ),
  )
  return (await Promise.all(lists)).flat().filter(({ vmid }) => isOwnVmid(own, vmid))
}

/** All volumes with a VMID of the range, and all files that bear the suite's name. */
export async function volumesInRange({ own, client, nodes, storages }: Server): Promise<Volume[]> {
  const found: Volume[] = []
  for (const node of nodes) {
    const there = await read<{ storage: string; active?: number }[]>(client, `/nodes/${node}/storage`)
    for (const { storage } of there.filter((row) => row.active === 1 && storages.includes(row.storage))) {
      const rows = await read<{ volid: string }[]>(client, `/nodes/${node}/storage/${storage}/content`)
      for (const { volid } of rows) if (isOwnVolume(own, volid)) found.push({ node, storage, volid })
    }
  }
  return found
}

export async function pools({ own, client }: Server): Promise<{ poolid: string; comment?: string }[]> {
  const all = await read<{ poolid: string; comment?: string }[]>(client, '/pools')
  return all.filter(({ poolid }) => isOwnPool(own, poolid))
}

export async function membersOf({ client }: Server, poolid: string): Promise<number[]> {
  const rows = await read<{ members: { vmid?: number }[] }[]>(client, `/pools?poolid=${poolid}`)
  return rows.flatMap(({ members }) =>
    members.flatMap(({ vmid }) => (vmid === undefined ? [] : [Number(vmid)])),
  )
}

export async function hasUser({ own, client }: Server): Promise<boolean> {
  return (await read<{ userid: string }[]>(client, '/access/users')).some(
    ({ userid }) => userid === ownUser(own),
  )
}

/** Members of the suite's pools. */
async function allMembers(server: Server): Promise<number[]> {
  const found = await pools(server)
  return (await Promise.all(found.map(({ poolid }) => membersOf(server, poolid)))).flat()
}

/** Guests in the range that somebody else has made: they are in no pool of the suite. */
export async function strangersIn(server: Server): Promise<Found[]> {
  const members = await allMembers(server)
  const outside = (await guestsInRange(server)).filter(({ vmid }) => !members.includes(vmid))
  const stubs = await Promise.all(outside.map((guest) => isOwnStub(server, guest)))
  return outside.filter((_, index) => !stubs[index])
}

/**
 * Of a create whose worker died, Proxmox keeps a configuration with nothing but a lock, in no pool. It is the suite's
 * when its own token has asked for the last create there.
 */
async function isOwnStub({ client }: Server, { kind, node, vmid }: Found): Promise<boolean> {
  const { digest: _, ...config } = (await client.get(`/nodes/${node}/${kind}/${vmid}/config`)).body
    .data as Record<string, unknown>
  if (Object.keys(config).join() !== 'lock') return false
  const tasks = await read<{ type: string; user: string; tokenid?: string }[]>(
    client,
    `/nodes/${node}/tasks?vmid=${vmid}&limit=50`,
  )
  const last = tasks.find(({ type }) => /^(?:qmcreate|vzcreate|vzrestore|qmclone|vzclone)$/.test(type))
  const [token] = (client.credentials.token ?? '').split('=', 1)
  return last !== undefined && [last.user, `${last.user}!${last.tokenid}`].includes(token as string)
}
