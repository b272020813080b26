import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Owner } from '../../src/pve/marks.ts'
import { thisOwner } from '../../src/pve/owner.ts'
import { assertOwn } from './bounds.ts'
import { Client, type Reply } from './client.ts'
import { leaveGround, takeGround } from './ground.ts'
import { startLab } from './lab-target.ts'
import { type Own, ownFile, ownPool, ownUser } from './own.ts'
import { read } from './server.ts'
import { setTagRules } from './tag-rules.ts'
import type { Reached } from './target.ts'
import { hasEnded } from './tasks.ts'

/** The suite as a guest on a server that others use: what it takes, what it leaves alone, and what it gives back. */

const own: Own = { namespace: 'suite', vmids: { first: 7100, last: 7199 } }

describe('the client writes to what is its own', () => {
  const image = Buffer.from('Content-Disposition: form-data; name="filename"; filename="suite-a.iso"')
  test.each<[method: string, path: string, body?: string | Buffer]>([
    ['POST', '/nodes/n/qemu', 'vmid=7100&pool=suite'],
    ['POST', '/nodes/n/lxc?vmid=7199&pool=suite-more'],
    ['POST', '/nodes/n/qemu', 'vmid=99'],
    ['POST', '/nodes/n/qemu/7100/clone', 'newid=7101&pool=suite'],
    ['DELETE', '/nodes/n/lxc/7100'],
    ['PUT', '/nodes/n/qemu/7100/config', '{"delete":["tags"]}'],
    ['POST', '/nodes/n/storage/s/upload', image],
    ['DELETE', '/nodes/n/storage/s/content/s%3Aiso%2Fsuite-a.iso'],
    ['DELETE', '/nodes/n/storage/s/content/s:9000/base-9000-disk-0.qcow2/7100/vm-7100-disk-0.qcow2'],
    ['DELETE', '/nodes/n/storage/s/content/s:backup/vzdump-lxc-7100-2026_11_30-06_52_41.tar.zst'],
    ['DELETE', '/nodes/n/tasks/UPID:n:0001:0002:0003:qmcreate:7100:a@pve!b:'],
    ['POST', '/access/users', 'userid=suite@pve'],
    ['GET', '/nodes/n/qemu/100/config'],
  ])('%s %s', (method, path, body) => {
    expect(() => assertOwn(own, method, path, body)).not.toThrow()
  })

  test.each<[method: string, path: string, body?: string | Buffer]>([
    ['POST', '/nodes/n/qemu', 'vmid=7200&pool=suite'],
    ['POST', '/nodes/n/qemu', 'vmid=7100'],
    ['POST', '/nodes/n/qemu', 'vmid=7100&pool=theirs'],
    ['POST', '/nodes/n/qemu/7100/clone', 'newid=100&pool=suite'],
    ['DELETE', '/nodes/n/lxc/100?force=1'],
    ['POST', '/nodes/n/qemu/100/status/stop'],
    ['POST', '/nodes/n/storage/s/upload', Buffer.from('name="filename"; filename="debian.iso"')],
    ['POST', '/nodes/n/storage/s/download-url', 'filename=debian.iso'],
    ['DELETE', '/nodes/n/storage/s/content/s:iso/debian.iso'],
    ['DELETE', '/nodes/n/storage/s/content/s:7100/base-7100-disk-0.qcow2/130/vm-130-disk-0.qcow2'],
    ['DELETE', '/nodes/n/storage/s/content/s:backup/vzdump-lxc-100-2026_11_30-06_52_41.tar.zst'],
    ['DELETE', '/nodes/n/tasks/UPID:n:0001:0002:0003:qmcreate:100:a@pve!b:'],
    ['DELETE', '/pools?poolid=theirs'],
    ['DELETE', '/access/users/root@pam'],
    ['PUT', '/access/acl', 'path=/&roles=Administrator&users=other@pve'],
    ['PUT', '/cluster/options', 'keyboard=de'],
    ['POST', '/storage', 'storage=s'],
  ])('or throws: %s %s', (method, path, body) => {
    expect(() => assertOwn(own, method, path, body)).toThrow(/would write to what is not the suite's own/)
  })
})

test('whatever it sends as raw bytes is looked at too', () => {
  const client = new Client('https://127.0.0.1:1', '', {}, own)
  const get = 'GET /api2/json/version HTTP/1.1\r\nContent-Length: 0\r\n\r\n'
  const remove = 'DELETE /api2/json/nodes/n/qemu/100 HTTP/1.1\r\n\r\n'
  expect(() => client.raw(get + remove)).toThrow(/would write to what is not/)
})

describe('of the cluster’s options', () => {
  const allowed = { ...own, tagRules: true }
  const put = (body: string) => () => assertOwn(allowed, 'PUT', '/cluster/options', body)
  test.each([
    'registered-tags=a&delete=user-tag-access',
    'delete=registered-tags%2Cuser-tag-access',
    '{"delete":["registered-tags"]}',
  ])('those about tags may be changed: %s', (body) => {
    expect(put(body)).not.toThrow()
    expect(() => assertOwn(own, 'PUT', '/cluster/options', body)).toThrow(/would write to what is not/)
  })
  test.each([
    'delete=keyboard',
    'registered-tags=a&delete=user-tag-access%2Ckeyboard',
    'user-tag-access=user-allow%3Dfree&mac_prefix=02',
    '{"delete":["registered-tags","keyboard"]}',
  ])('no others: %s', (body) => {
    expect(put(body)).toThrow(/would write to what is not/)
  })
})

describe('on a server that others use', () => {
  let server: Reached
  let others: Client
  let me: Owner
  const guests = () => `/nodes/${server.node}/qemu`

  beforeAll(async () => {
    server = await startLab()
    const { base, fingerprint, credentials } = server.client
    others = new Client(base, fingerprint, credentials)
    me = await thisOwner()
  })
  afterAll(async () => {
    await others.close()
    await server.close()
  })

  async function done(reply: Reply): Promise<void> {
    const upid = reply.body.data as string
    expect(await hasEnded(server.client, server.node, upid, 60)).toBe(true)
    const path = `/nodes/${server.node}/tasks/${encodeURIComponent(upid)}/status`
    expect((await read<{ exitstatus: string }>(server.client, path)).exitstatus).toBe('OK')
  }
  const upload = async (client: Client, name: string) => {
    const path = `/nodes/${server.node}/storage/${server.files}/upload`
    const file = { name, data: Buffer.alloc(512) }
    const parts: [string, string | typeof file][] = [
      ['content', 'iso'],
      ['filename', file],
    ]
    await done(await client.upload(path, parts))
  }
  /** All that the server has, of the suite and of others. */
  const inventory = async () => ({
    vmids: (await read<{ vmid: number }[]>(others, guests())).map(({ vmid }) => vmid).sort(),
    volids: (
      await read<{ volid: string }[]>(others, `/nodes/${server.node}/storage/${server.files}/content`)
    ).map(({ volid }) => volid),
    pools: (await read<{ poolid: string }[]>(others, '/pools')).map(({ poolid }) => poolid),
    users: (await read<{ userid: string }[]>(others, '/access/users')).map(({ userid }) => userid),
    options: await read<Record<string, unknown>>(others, '/cluster/options'),
  })
  /** A process of this machine that is none any more. */
  const killed = (): Owner => ({ ...me, started: '1' })

  test('a killed run’s leftovers go, and nothing else', async () => {
    const { first } = server.own.vmids
    await done(await others.post(guests(), { vmid: 500, memory: 16, scsi0: `${server.files}:1` }))
    await done(await others.post(guests(), { vmid: server.own.vmids.last + 1, memory: 16 }))
    await upload(others, 'theirs.iso')
    await others.post('/pools', { poolid: 'theirs' })
    await others.post('/access/users', { userid: 'theirs@pve' })
    const theirs = {
      'registered-tags': 'theirs;more',
      'user-tag-access': 'user-allow=list,user-allow-list=a;b',
    }
    expect((await others.put('/cluster/options', theirs)).status).toBe(200)
    const before = await inventory()

    await takeGround(server, killed())
    const hardware = { memory: 16, protection: 1, scsi0: `${server.files}:1,format=qcow2` }
    await done(await server.client.post(guests(), { vmid: first, ...hardware }))
    await done(await server.client.post(`${guests()}/${first}/template`))
    await done(await server.client.post(`${guests()}/${first}/clone`, { newid: first + 1 }))
    await done(await server.client.post(guests(), { vmid: first + 2, memory: 16 }))
    await done(await server.client.post(`${guests()}/${first + 2}/status/start`))
    await server.root?.put(`${guests()}/${first + 1}/config`, { lock: 'backup' })
    await server.client.post('/pools', { poolid: `${ownPool(server.own)}-more` })
    await server.client.post('/access/users', { userid: ownUser(server.own) })
    for (const rules of [{ 'registered-tags': 'suite' }, { 'user-tag-access': 'user-allow=none' }]) {
      expect((await setTagRules(server, rules)).status).toBe(200)
    }
    expect((await inventory()).options).not.toEqual(before.options)
    await upload(server.client, ownFile(server.own, 'left.iso'))
    const stray = `/nodes/${server.node}/storage/${server.files}/content`
    await others.post(stray, { vmid: first + 3, filename: `vm-${first + 3}-disk-0.raw`, size: '1M' })

    // A run that may not change rules itself puts them back all the same.
    const { base, fingerprint, credentials, own } = server.client
    const client = new Client(base, fingerprint, credentials, own && { ...own, tagRules: false })
    await takeGround({ ...server, client }, me)
    await client.close()
    expect(await inventory()).toEqual({ ...before, pools: [...before.pools, ownPool(server.own)] })
    await leaveGround(server)
    expect(await inventory()).toEqual(before)
  })

  test('another run keeps it out, as long as it lives', async () => {
    await takeGround(server, me)
    const another = { ...me, pid: process.ppid, started: 'another run' }
    // Its own process has its place already, and gets it again.
    await takeGround(server, me)
    await expect(takeGround(server, another)).rejects.toThrow(
      `another run of the contract suite is under way: process ${process.pid} on ${me.host}`,
    )
    await leaveGround(server)
    await takeGround(server, { ...me, boot: 'elsewhere', machine: 'elsewhere' })
    await expect(takeGround(server, me)).rejects.toThrow('belongs to a run of the contract suite elsewhere')
    await leaveGround(server)
  })

  test('what is in the way is named, and left alone', async () => {
    const { first } = server.own.vmids
    await done(await others.post(guests(), { vmid: first + 9, memory: 16 }))
    await expect(takeGround(server, me)).rejects.toThrow(
      `needs VMIDs ${first} to ${server.own.vmids.last} and the name ${server.own.namespace} for itself, but VM ${first + 9} is on ${server.node}: give it others`,
    )
    expect((await inventory()).pools).not.toContain(ownPool(server.own))
    await done(await others.delete(`${guests()}/${first + 9}`))

    await others.post('/pools', { poolid: ownPool(server.own), comment: 'production' })
    await expect(takeGround(server, me)).rejects.toThrow(
      `there is a pool ${ownPool(server.own)} that is not the suite's`,
    )
    await others.delete('/pools', { poolid: ownPool(server.own) })

    // Somebody has taken a VMID since a killed run.
    await takeGround(server, killed())
    await done(await others.post(guests(), { vmid: first, memory: 16 }))
    await done(await server.client.post(guests(), { vmid: first + 1, memory: 16 }))
    await expect(takeGround(server, me)).rejects.toThrow(
      `guest ${first} on ${server.node} is not in its pool`,
    )
    await expect(leaveGround(server)).rejects.toThrow(
      `VM ${first} on ${server.node} is in no pool of the suite`,
    )
    expect((await inventory()).vmids).toContain(first)
    await done(await others.delete(`${guests()}/${first}`))
    await leaveGround(server)
  })

  test('another range than that of the leftovers is refused', async () => {
    await takeGround(server, killed())
    const elsewhere = { ...server, own: { ...server.own, vmids: { first: 8000, last: 8100 } } }
    const { first, last } = server.own.vmids
    await expect(takeGround(elsewhere, me)).rejects.toThrow(`IMAGEBUILD_TEST_PVE_VMIDS=${first}-${last}`)
    await leaveGround(server)
  })
})
