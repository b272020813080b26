import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Reply } from './client.ts'
import { startTarget, type Target } from './target.ts'

// Clause 23.2 of pve.md.

let target: Target
beforeAll(async () => {
  target = await startTarget()
})
afterAll(() => target.stop())

const NODE = '/nodes/nowhere'
const UPID = 'UPID:nowhere:00000001:00000001:00000001:qmstart:100:root@pam:'

test('23.2 of a node that there is not, everything but its index is refused with the words of the lookup', async () => {
  const { client } = target
  const storage = `${NODE}/storage/${target.files}`
  const calls: Record<string, Promise<Reply>> = {
    'the node': client.get(`${NODE}/status`),
    bridges: client.get(`${NODE}/network`),
    machines: client.get(`${NODE}/qemu`),
    containers: client.get(`${NODE}/lxc`),
    storages: client.get(`${NODE}/storage`),
    volumes: client.get(`${storage}/content`),
    tasks: client.get(`${NODE}/tasks`),
    'a task': client.get(`${NODE}/tasks/${UPID}/status`),
    'its log': client.get(`${NODE}/tasks/${UPID}/log`),
    appliances: client.get(`${NODE}/aplinfo`),
    'a configuration': client.get(`${NODE}/qemu/100/config`),
    'a status': client.get(`${NODE}/lxc/100/status/current`),
    'a change': client.put(`${NODE}/qemu/100/config`, { tags: 'a' }),
    'a create': client.post(`${NODE}/qemu`, { vmid: 990180 }),
    'a clone': client.post(`${NODE}/lxc/100/clone`, { newid: 990180 }),
    'a removal': client.delete(`${NODE}/lxc/100`),
    'a backup': client.post(`${NODE}/vzdump`, { vmid: 100 }),
    'an upload': client.upload(`${storage}/upload`, [
      ['content', 'iso'],
      ['filename', { name: 'a.iso', data: Buffer.from('x') }],
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
