import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Reply } from './client.ts'
import { gate } from './gate.ts'
import { ownFile, ownPool } from './own.ts'
import { ended, LAB_FAULTS, startTarget, type Target } from './target.ts'
import { tinyArchive } from './tiny-archive.ts'

/** Clauses 24.1 and 24.2 of pve.md: a VMID that several want at once, and one that a dead worker has kept. */

const STUBS = { vm: 990190, lxc: 990191 }
const held = gate()
let target: Target
/** as `target`, but its creates and clones hold their locks while the gate is closed */
let slow: Target
let archive: Buffer

beforeAll(async () => {
  archive = await tinyArchive()
  target = await startTarget({ faults: { deadWorkers: Object.values(STUBS) } })
  if (!target.lab) return
  slow = await startTarget({ faults: { cloneStartSeconds: 0, lockSeconds: 1 }, pause: held.pause })
})
afterAll(() => Promise.all([target, slow].map((one) => one?.stop())))

const qemu = ({ node }: Target, vmid: number, what = '') => `/nodes/${node}/qemu/${vmid}${what}`
const lxc = ({ node }: Target, vmid: number, what = '') => `/nodes/${node}/lxc/${vmid}${what}`

async function template(at: Target): Promise<number> {
  const vmid = await at.vmid()
  const disk = `${at.files}:1,format=qcow2`
  const create = await at.client.post(`/nodes/${at.node}/qemu`, { vmid, memory: 16, scsi0: disk })
  expect((await ended(at, create)).exitstatus).toBe('OK')
  const reply = await at.client.post(qemu(at, vmid, '/template'))
  expect((await ended(at, reply)).exitstatus).toBe('OK')
  return vmid
}

async function container(at: Target): Promise<number> {
  const vmid = await at.vmid()
  const reply = await at.client.post(`/nodes/${at.node}/lxc`, containerOptions(at, vmid))
  expect(await ended(at, reply)).toMatchObject({ exitstatus: 'OK' })
  return vmid
}

const ARCHIVE = 'one-vmid_1_amd64.tar.zst'
const containerOptions = ({ files, own }: Target, vmid: number) => ({
  ...{ vmid, ostemplate: `${files}:vztmpl/${ownFile(own, ARCHIVE)}`, rootfs: `${files}:0.1` },
  ...{ ostype: 'unmanaged', memory: 64 },
})

async function uploadArchive(at: Target): Promise<void> {
  const reply = await at.client.upload(`/nodes/${at.node}/storage/${at.files}/upload`, [
    ['content', 'vztmpl'],
    ['filename', { name: ownFile(at.own, ARCHIVE), data: archive }],
  ])
  expect((await ended(at, reply)).exitstatus).toBe('OK')
}

/** The same call twice over one connection, so that a lab begins with both at the same moment. */
async function twice(at: Target, path: string, form: Record<string, string | number>): Promise<string[]> {
  if (!at.lab) {
    const replies = await Promise.all([at.client.post(path, form), at.client.post(path, form)])
    return replies.map(said)
  }
  const body = new URLSearchParams({ pool: ownPool(at.own) })
  for (const [name, value] of Object.entries(form)) body.set(name, String(value))
  const { authorization } = at.client.headers()
  const call = (connection: string) =>
    [
      ...[`POST /api2/json${path} HTTP/1.1`, 'Host: lab', `Authorization: ${authorization}`],
      ...['Content-Type: application/x-www-form-urlencoded', `Content-Length: ${body.toString().length}`],
      ...[`Connection: ${connection}`, '', body.toString()],
    ].join('\r\n')
  const answers = await at.client.raw(call('keep-alive') + call('close'))
  return [...answers.matchAll(/\{"data":.*?\}/g)].map(([json]) => said({ body: JSON.parse(json) }))
}

const said = ({ body }: Pick<Reply, 'body'>) => body.data ?? body.message?.trim() ?? ''

const remove = async (at: Target, path: string) =>
  (await ended(at, await at.client.delete(path, { purge: 1 }))).exitstatus

describe('two clones of a virtual machine to one VMID', () => {
  test('24.1 are both accepted; the task of one fails, and takes nothing from the other', async () => {
    const source = await template(target)
    const newid = await target.vmid()
    const upids = await twice(target, qemu(target, source, '/clone'), { newid })
    if (target.lab) expect(upids).toEqual(Array(2).fill(expect.stringContaining(':qmclone:')))
    const exits: string[] = []
    for (const upid of upids)
      exits.push(upid.startsWith('UPID:') ? (await ended(target, upid)).exitstatus : upid)
    const taken = new RegExp(
      `^unable to create VM ${newid}: config file already exists$|lock-${newid}\\.conf' - got timeout$`,
    )
    expect(exits.sort()).toEqual(['OK', expect.stringMatching(taken)])
    const { scsi0 } = (await target.client.get(qemu(target, newid, '/config'))).body.data as { scsi0: string }
    expect(scsi0).toContain(`vm-${newid}-disk-0`)
    // Started, it has its disk.
    const start = await target.client.post(qemu(target, newid, '/status/start'))
    expect((await ended(target, start)).exitstatus).toBe('OK')
    const stop = await target.client.post(qemu(target, newid, '/status/stop'))
    expect((await ended(target, stop)).exitstatus).toBe('OK')
    const late = await target.client.post(qemu(target, source, '/clone'), { newid })
    expect(late.reason).toBe(`unable to create VM ${newid}: config file already exists`)
    expect(await remove(target, qemu(target, newid))).toBe('OK')
    expect(await remove(target, qemu(target, source))).toBe('OK')
  })

  test('24.1 a VMID that a container has is refused in the task', async () => {
    await uploadArchive(target)
    const [source, taken] = [await template(target), await container(target)]
    const reply = await target.client.post(qemu(target, source, '/clone'), { newid: taken })
    expect((await ended(target, reply)).exitstatus).toBe(
      `close (rename) atomic file '/etc/pve/nodes/${target.node}/qemu-server/${taken}.conf' failed: File exists`,
    )
    expect((await target.client.get(lxc(target, taken, '/config'))).status).toBe(200)
    expect(await remove(target, lxc(target, taken))).toBe('OK')
    expect(await remove(target, qemu(target, source))).toBe('OK')
  })
})

describe('locks that are held for long', () => {
  test('24.1 a clone waits a second for the other’s lock, in vain; their source is shared', async ({
    skip,
  }) => {
    if (!target.lab) return skip(LAB_FAULTS)
    const source = await template(slow)
    const [newid, other] = [await slow.vmid(), await slow.vmid()]
    held.close()
    const upids = await twice(slow, qemu(slow, source, '/clone'), { newid })
    const ends = upids.map(async (upid) => (await ended(slow, upid)).exitstatus)
    expect(await Promise.race(ends)).toBe(
      `can't lock file '/var/lock/qemu-server/lock-${newid}.conf' - got timeout`,
    )
    const copying = await slow.client.post(qemu(slow, source, '/clone'), { newid: other })
    const disk = async () =>
      ((await slow.client.get(qemu(slow, other, '/config'))).body.data as { scsi0?: string } | null)?.scsi0
    await expect.poll(disk, { timeout: 30_000 }).toContain(`vm-${other}-disk-0`)
    held.open()
    expect((await ended(slow, copying)).exitstatus).toBe('OK')
    expect((await Promise.all(ends)).filter((exit) => exit === 'OK')).toHaveLength(1)
    for (const vmid of [newid, other, source]) expect(await remove(slow, qemu(slow, vmid))).toBe('OK')
  })

  test('24.1 of containers, all is refused in the call: a taken VMID, and a source that is being copied', async ({
    skip,
  }) => {
    if (!target.lab) return skip(LAB_FAULTS)
    await uploadArchive(slow)
    const source = await container(slow)
    const [vmid, newid] = [await slow.vmid(), await slow.vmid()]
    held.close()
    const create = () => slow.client.post(`/nodes/${slow.node}/lxc`, containerOptions(slow, vmid))
    const creating = await create()
    expect((await create()).reason).toBe(`CT ${vmid} already exists on node '${slow.node}'`)
    const clone = (to: number) => slow.client.post(lxc(slow, source, '/clone'), { newid: to })
    const copying = await clone(newid)
    expect((await clone(await slow.vmid())).reason).toBe('CT is locked (disk)')
    expect((await slow.client.delete(lxc(slow, source))).reason).toBe('CT is locked (disk)')
    held.open()
    for (const reply of [creating, copying]) expect((await ended(slow, reply)).exitstatus).toBe('OK')
    for (const one of [vmid, newid, source]) expect(await remove(slow, lxc(slow, one))).toBe('OK')
  })
})

describe('a create whose worker dies at once', () => {
  const stub = async (path: string) => (await target.client.get(`${path}/config`)).body.data as object

  test('24.2 of a virtual machine leaves a stub that root@pam alone can remove', async ({ skip }) => {
    const { root, lab } = target
    if (!lab || root === undefined) return skip(LAB_FAULTS)
    const path = qemu(target, STUBS.vm)
    const form = { vmid: STUBS.vm, memory: 16, tags: 'a', scsi0: `${target.files}:1` }
    const reply = await target.client.post(`/nodes/${target.node}/qemu`, form)
    expect(await ended(target, reply)).toEqual({
      exitstatus: 'unable to read tail (got 0 bytes)',
      log: ['no content'],
    })
    expect(await stub(path)).toEqual({ lock: 'create', digest: expect.any(String) })
    expect(await remove(target, path)).toBe('VM is locked (create)')
    expect((await target.client.put(`${path}/config`, { tags: 'mine' })).reason).toBe('VM is locked (create)')
    expect((await target.client.post(`/nodes/${target.node}/qemu`, form)).reason).toMatch(/already exists/)
    expect((await target.client.delete(path, { skiplock: 1 })).status).toBe(400)
    expect((await ended(target, await root.delete(path, { skiplock: 1 }))).exitstatus).toBe('OK')
    expect((await target.client.get(`${path}/config`)).status).toBe(500)
  })

  test('24.2 of a container leaves one that is not even removed in a task', async ({ skip }) => {
    const { root, lab } = target
    if (!lab || root === undefined) return skip(LAB_FAULTS)
    await uploadArchive(target)
    const path = lxc(target, STUBS.lxc)
    const reply = await target.client.post(`/nodes/${target.node}/lxc`, containerOptions(target, STUBS.lxc))
    expect((await ended(target, reply)).exitstatus).toBe('unable to read tail (got 0 bytes)')
    expect(await stub(path)).toEqual({ lock: 'create', digest: expect.any(String) })
    expect((await target.client.delete(path)).reason).toBe('CT is locked (create)')
    // As `pct unlock` does on a real node.
    expect((await root.put(`${path}/config`, { delete: 'lock' })).status).toBe(200)
    expect(await remove(target, path)).toBe('OK')
  })
})
