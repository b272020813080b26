import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Reply } from './client.ts'
import { ownFile } from './own.ts'
import { startTarget, type Target } from './target.ts'

// Clause 23.2 of pve.md.

let target: Target
beforeAll(async () => {
  target = await startTarget()
})
afterAll(() => target?.stop())

const NODE = '/nodes/nowhere'

test('23.2 of a node that there is not, everything but its index is refused with the words of the lookup', async () => {
  const { client } = target
  const [vmid, newid] = [await target.vmid(), await target.vmid()]
  const upid = `UPID:nowhere:00000001:00000001:00000001:qmstart:${vmid}:root@pam:`
  const storage = `${NODE}/storage/${target.files}`
  const calls: Record<string, Promise<Reply>> = {
    'the node': client.get(`${NODE}/status`),
    bridges: client.get(`${NODE}/network`),
    machines: client.get(`${NODE}/qemu`),
    containers: client.get(`${NODE}/lxc`),
    storages: client.get(`${NODE}/storage`),
    volumes: client.get(`${storage}/content`),
    tasks: client.get(`${NODE}/tasks`),
    'a task': client.get(`${NODE}/tasks/${upid}/status`),
    'its log': client.get(`${NODE}/tasks/${upid}/log`),
    appliances: client.get(`${NODE}/aplinfo`),
    'a configuration': client.get(`${NODE}/qemu/${vmid}/config`),
    'a status': client.get(`${NODE}/lxc/${vmid}/status/current`),
    'a change': client.put(`${NODE}/qemu/${vmid}/config`, { tags: 'a' }),
    'a create': client.post(`${NODE}/qemu`, { vmid }),
    'a clone': client.post(`${NODE}/lxc/${vmid}/clone`, { newid }),
    'a removal': client.delete(`${NODE}/lxc/${vmid}`),
    'a backup': client.post(`${NODE}/vzdump`, { vmid }),
    'an upload': client.upload(`${storage}/upload`, [
      ['content', 'iso'],
      ['filename', { name: ownFile(target.own, 'a.iso'), data: Buffer.from('x') }],
    ]),
  }
  const answers = await Promise.all(
    Object.entries(calls).map(async ([what, call]) => {
      const { status, body, reason } = await call
      return [what, `${status} ${body.message ?? reason}`.trim()]
    }),
  )
  const refused =
    "500 hostname lookup 'nowhere' failed - failed to get address info for: nowhere: Name or service not known"
  expect(Object.fromEntries(answers)).toEqual(
    Object.fromEntries(Object.keys(calls).map((what) => [what, refused])),
  )
  // It needs no node to answer it.
  expect((await client.get(NODE)).body.data).toContainEqual({ name: 'qemu' })
})
