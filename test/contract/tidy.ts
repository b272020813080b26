import type { Reply } from './client.ts'
import { ownPool, ownRole, ownUser } from './own.ts'
import {
  type Found,
  guestsInRange,
  hasUser,
  pools,
  read,
  type Server,
  strangersIn,
  volumesInRange,
} from './server.ts'
import { restoreTagRules } from './tag-rules.ts'
import { endTasks, hasEnded } from './tasks.ts'

/** How often guests are looked for: what keeps one from going may go with another. */
const ROUNDS = 3

/**
 * Puts the cluster's rules about tags back, and removes what the suite has made: what runs for its guests, guests, volumes
 * and files, its user with tokens and ACLs, and the pools that tests have made.
 * @returns a sentence for each thing that could not be put back or removed
 */
export async function tidy(server: Server): Promise<string[]> {
  const changed = await restoreTagRules(server)
  await endTasks(server)
  const left = await removeGuests(server)
  if (changed !== undefined) left.unshift(`the cluster's rules about tags: ${changed}`)
  const { client, own } = server
  for (const { node, storage, volid } of await volumesInRange(server)) {
    const path = `/nodes/${node}/storage/${storage}/content/${encodeURIComponent(volid)}`
    await gone(client.delete(path, { delay: 30 }), volid, left)
  }
  if (await hasUser(server)) await gone(client.delete(`/access/users/${ownUser(own)}`), ownUser(own), left)
  const roles = await read<{ roleid: string }[]>(client, '/access/roles')
  if (roles.some(({ roleid }) => roleid === ownRole(own))) {
    await gone(client.delete(`/access/roles/${ownRole(own)}`), ownRole(own), left)
  }
  for (const { poolid } of await pools(server)) {
    if (poolid === ownPool(own)) continue
    await gone(client.delete('/pools', { poolid }), `the pool ${poolid}`, left)
  }
  return left
}

async function gone(deleting: Promise<Reply>, what: string, left: string[]): Promise<void> {
  const { status, reason } = await deleting
  if (status !== 200) left.push(`${what}: ${reason}`)
}

/** Clones before what they stand on; what did not go at first is tried again. */
async function removeGuests(server: Server): Promise<string[]> {
  let left: string[] = []
  for (let round = 1; round <= ROUNDS; round++) {
    left = (await strangersIn(server)).map((guest) => `${nameOf(guest)} is in no pool of the suite`)
    const strangers = left.length
    const guests = (await ownGuests(server)).sort((a, b) => (a.template ?? 0) - (b.template ?? 0))
    for (const guest of guests) {
      const failed = await removeGuest(server, guest)
      if (failed !== undefined) left.push(`${nameOf(guest)}: ${failed}`)
    }
    if (left.length === strangers) break
  }
  return left
}

async function ownGuests(server: Server): Promise<Found[]> {
  const strangers = (await strangersIn(server)).map(({ vmid }) => vmid)
  return (await guestsInRange(server)).filter(({ vmid }) => !strangers.includes(vmid))
}

const nameOf = ({ kind, vmid, node }: Found) => `${kind === 'qemu' ? 'VM' : 'CT'} ${vmid} on ${node}`

/** @returns why it is still there */
async function removeGuest(
  { client, root }: Server,
  { kind, node, vmid, status }: Found,
): Promise<string | undefined> {
  const guest = `/nodes/${node}/${kind}/${vmid}`
  const until = async (reply: Reply): Promise<string | undefined> => {
    const upid = reply.body.data as unknown
    if (reply.status !== 200 || typeof upid !== 'string') return reply.reason
    if (!(await hasEnded(client, node, upid, 60))) return `its task goes on: ${upid}`
    const { exitstatus } = await read<{ exitstatus: string }>(
      client,
      `/nodes/${node}/tasks/${encodeURIComponent(upid)}/status`,
    )
    return /^(?:OK|WARNINGS)/.test(exitstatus) ? undefined : exitstatus
  }
  const found = await client.get(`${guest}/config`)
  // Whoever else was removing it has done so.
  if (found.status !== 200 && /does not exist/.test(found.reason)) return undefined
  const { lock, protection } = found.body.data as { lock?: string; protection?: number }
  // Nothing of Proxmox's API takes a lock off a container.
  if (lock !== undefined && kind === 'qemu')
    await root?.put(`${guest}/config`, { delete: 'lock', skiplock: 1 })
  if (protection === 1) await client.put(`${guest}/config`, { protection: 0 })
  if (status === 'running') await until(await client.post(`${guest}/status/stop`))
  const failed = await until(await client.delete(guest, { purge: 1, 'destroy-unreferenced-disks': 1 }))
  if (failed === undefined || !failed.includes('is locked')) return failed
  return `${failed}, which \`${kind === 'qemu' ? 'qm' : 'pct'} unlock ${vmid}\` ends on the node`
}
