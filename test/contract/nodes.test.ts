import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Fields } from './client.ts'
import { ownFile } from './own.ts'
import { ended, NO_OTHER, NO_SHARED, startTarget, type Target } from './target.ts'

// Clauses of pve.md, section 23. They need a cluster of two nodes.

let target: Target
beforeAll(async () => {
  target = await startTarget()
})
afterAll(() => target?.stop())

interface Row {
  id: string
  node: string
  vmid?: number
  storage?: string
  shared?: number
}
const data = <T>(reply: { body: { data: never } }): T => reply.body.data

async function machine(node: string, more: Fields = {}): Promise<number> {
  const vmid = await target.vmid()
  const { exitstatus } = await ended(
    target,
    await target.client.post(`/nodes/${node}/qemu`, { vmid, memory: 16, ...more }),
  )
  expect(exitstatus).toBe('OK')
  return vmid
}

describe('a cluster of two nodes', () => {
  test('23.1 lists both, and has a name and a quorum', async ({ skip }) => {
    const { client, node, other } = target
    if (other === undefined) return skip(NO_OTHER)
    const nodes = data<Row[]>(await client.get('/nodes')).map((row) => row.node)
    expect(nodes).toEqual(expect.arrayContaining([node, other]))
    const status = data<{ type: string; name: string; quorate?: number; nodeid?: number; nodes?: number }[]>(
      await client.get('/cluster/status'),
    )
    expect(status.find(({ type }) => type === 'cluster')).toMatchObject({ quorate: 1, nodes: nodes.length })
    const ids = status.filter(({ type }) => type === 'node').map(({ nodeid }) => nodeid)
    expect(new Set(ids).size).toBe(nodes.length)
    expect(Math.min(...(ids as number[]))).toBeGreaterThan(0)
  })

  test('23.2 an unknown node is a 500, whatever is asked of it', async () => {
    const reply = await target.client.get('/nodes/nowhere/qemu')
    expect(reply.status).toBe(500)
    expect(reply.body.message).toMatch(/^hostname lookup 'nowhere' failed - failed to get address info for/)
  })

  test('23.3 a guest answers on its own node only; its VMID is taken on all', async ({ skip }) => {
    const { client, node, other } = target
    if (other === undefined) return skip(NO_OTHER)
    const vmid = await machine(other)
    const there = data<Row[]>(await client.get(`/nodes/${other}/qemu`)).map((row) => row.vmid)
    const here = data<Row[]>(await client.get(`/nodes/${node}/qemu`)).map((row) => row.vmid)
    expect([there.includes(vmid), here.includes(vmid)]).toEqual([true, false])
    const wrong = `Configuration file 'nodes/${node}/qemu-server/${vmid}.conf' does not exist`
    for (const reply of [
      await client.get(`/nodes/${node}/qemu/${vmid}/config`),
      await client.put(`/nodes/${node}/qemu/${vmid}/config`, { cores: 2 }),
      await client.delete(`/nodes/${node}/qemu/${vmid}`),
    ]) {
      expect(reply.status).toBe(500)
      expect(reply.body.message).toContain(wrong)
    }
    const taken = await client.post(`/nodes/${node}/qemu`, { vmid, memory: 16 })
    expect(taken.status).toBe(500)
    expect(taken.body.message).toContain(`VM ${vmid} already exists on node '${other}'`)
    expect((await client.get('/cluster/nextid', { vmid })).status).toBe(400)
  })

  test('23.4 each guest is listed once, with its node; each storage once for each node', async ({ skip }) => {
    const { client, node, other, files, shared } = target
    if (other === undefined) return skip(NO_OTHER)
    const vmid = await machine(other)
    const rows = data<Row[]>(await client.get('/cluster/resources', { type: 'vm' }))
    expect(rows.filter((row) => row.vmid === vmid).map((row) => row.node)).toEqual([other])
    const storages = data<Row[]>(await client.get('/cluster/resources', { type: 'storage' }))
    for (const [id, isShared] of [
      [files, 0],
      ...(shared === undefined ? [] : [[shared, 1] as const]),
    ] as const) {
      const found = storages.filter(({ storage }) => storage === id)
      expect(found.map((row) => row.node).sort()).toEqual([node, other].sort())
      expect(found.map((row) => row.shared)).toEqual([isShared, isShared])
      const row = data<Row[]>(await client.get(`/nodes/${other}/storage`, { storage: id }))
      expect(row[0]?.shared).toBe(isShared)
    }
  })

  test('23.5 a UPID names its node, and is known there only', async ({ skip }) => {
    const { client, node, other } = target
    if (other === undefined) return skip(NO_OTHER)
    const vmid = await target.vmid()
    const upid = data<string>(await client.post(`/nodes/${other}/qemu`, { vmid, memory: 16 }))
    expect(upid).toContain(`UPID:${other}:`)
    expect((await ended(target, upid)).exitstatus).toBe('OK')
    const at = (name: string) => `/nodes/${name}/tasks/${encodeURIComponent(upid)}/status`
    expect((await client.get(at(other))).status).toBe(200)
    expect((await client.get(at(node))).status).toBe(400)
    const list = data<{ upid: string }[]>(await client.get(`/nodes/${node}/tasks`, { limit: 500 }))
    expect(list.some((task) => task.upid === upid)).toBe(false)
  })

  test('23.6 a local storage has volumes of its own on each node, a shared one the same', async ({
    skip,
  }) => {
    const { client, node, other, files, shared } = target
    if (other === undefined) return skip(NO_OTHER)
    if (shared === undefined) return skip(NO_SHARED)
    const name = ownFile(target.own, 'nodes.tar.zst')
    const volumes = async (on: string, storage: string) =>
      data<{ volid: string }[]>(await client.get(`/nodes/${on}/storage/${storage}/content`)).map(
        ({ volid }) => volid,
      )
    for (const [storage, expected] of [
      [files, [true, false]],
      [shared, [true, true]],
    ] as const) {
      const upload = await client.upload(`/nodes/${other}/storage/${storage}/upload`, [
        ['content', 'vztmpl'],
        ['filename', { name, data: Buffer.from('an archive') }],
      ])
      expect((await ended(target, upload)).exitstatus).toBe('OK')
      const volid = `${storage}:vztmpl/${name}`
      const seen = [await volumes(other, storage), await volumes(node, storage)]
      expect(seen.map((list) => list.includes(volid))).toEqual(expected)
      await client.delete(`/nodes/${other}/storage/${storage}/content/${volid}`, { delay: 20 })
    }
  })

  test('23.7 a clone may live on another node where all volumes are shared', async ({ skip }) => {
    const { client, node, other, files, shared } = target
    if (other === undefined) return skip(NO_OTHER)
    if (shared === undefined) return skip(NO_SHARED)
    const clone = async (vmid: number, to: string) => {
      const newid = await target.vmid()
      return { newid, reply: await client.post(`/nodes/${node}/qemu/${vmid}/clone`, { newid, target: to }) }
    }
    const near = await machine(node, { scsi0: `${files}:1` })
    expect((await clone(near, other)).reply.body.message).toContain(
      `can't clone VM to node '${other}' (VM uses local storage)`,
    )
    expect((await clone(near, 'nowhere')).reply.body.message).toContain("no such cluster node 'nowhere'")
    const far = await machine(node, { scsi0: `${shared}:1` })
    const { newid, reply } = await clone(far, other)
    expect((await ended(target, reply)).exitstatus).toBe('OK')
    const config = data<{ scsi0: string }>(await client.get(`/nodes/${other}/qemu/${newid}/config`))
    expect(config.scsi0).toContain(`${shared}:${newid}/`)
  })
})
