import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Fields } from './client.ts'
import { ended, startTarget, type Target } from './target.ts'

// Clause 11.1 of pve.md: what a rollback, and a clone of a snapshot, take from where.

let target: Target
beforeAll(async () => {
  target = await startTarget()
})
afterAll(() => target?.stop())

test('11.1 a rollback keeps the description of now, and unknown disks as unused; a clone has the snapshot’s', async () => {
  const { client, node, files } = target
  const [vmid, newid] = [await target.vmid(), await target.vmid()]
  const guests = `/nodes/${node}/qemu`
  const path = `${guests}/${vmid}`
  const disk = `${files}:1,format=qcow2`
  const done = async (call: ReturnType<Target['client']['post']>) =>
    expect((await ended(target, await call)).exitstatus).toBe('OK')
  const config = async (of = path): Promise<Fields> => (await client.get(`${of}/config`)).body.data

  await done(client.post(guests, { vmid, memory: 16, scsi0: disk, description: 'before', tags: 'old' }))
  await done(client.post(`${path}/snapshot`, { snapname: 'one', description: 'of the snapshot' }))
  const change = await client.put(`${path}/config`, { description: 'after', tags: 'new', scsi1: disk })
  expect(change.status).toBe(200)
  const { scsi1 } = await config()
  await done(client.post(`${path}/snapshot/one/rollback`))
  const rolledBack = await config()
  expect(rolledBack).toMatchObject({ description: 'after', tags: 'old', parent: 'one' })
  expect(rolledBack).not.toHaveProperty('scsi1')
  expect(rolledBack.unused0).toBe(String(scsi1).split(',')[0])

  await done(client.post(`${path}/clone`, { newid, snapname: 'one', full: 1 }))
  const clone = await config(`${guests}/${newid}`)
  expect(String(clone.description).trim()).toBe('of the snapshot')
  for (const one of [newid, vmid]) await done(client.delete(`${guests}/${one}`, { purge: 1 }))
})
