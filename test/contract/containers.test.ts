import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { Client, Fields } from './client.ts'
import { holdProcess } from './held-process.ts'
import { ownFile, ownPool, ownUser } from './own.ts'
import { asOwnUser } from './own-user.ts'
import { guestsInRange } from './server.ts'
import {
  ended,
  LAB_APPLIANCES,
  LAB_REFUSES,
  NO_BLOCK,
  NO_CONSOLES,
  NO_PROCESSES,
  NO_ROOT,
  pinned,
  startTarget,
  type Target,
} from './target.ts'
import { ADDRESS, tinyArchive } from './tiny-archive.ts'

/** Clauses 19 and on of pve.md: a container from its template to its backup. */

let target: Target
let nodePath: string
let template: string

beforeAll(async () => {
  target = await startTarget()
  nodePath = `/nodes/${target.node}`
  if (target.linuxBridge !== undefined) {
    await execa('ip', ['link', 'add', 'name', target.linuxBridge, 'type', 'bridge'])
    await execa('ip', ['link', 'set', target.linuxBridge, 'up'])
  }
  template = await upload('tiny_1_amd64.tar.zst', await tinyArchive())
})
afterAll(async () => {
  await target?.stop()
  if (target?.linuxBridge !== undefined) await execa('ip', ['link', 'delete', target.linuxBridge])
})

async function upload(what: string, data: Buffer): Promise<string> {
  const name = ownFile(target.own, what)
  const reply = await target.client.upload(`${nodePath}/storage/${target.files}/upload`, [
    ['content', 'vztmpl'],
    ['filename', { name, data }],
  ])
  expect(await ended(target, reply)).toMatchObject({ exitstatus: 'OK' })
  return `${target.files}:vztmpl/${name}`
}

type Config = Record<string, string | number>

const basics = (): Fields => ({
  ...{ ostemplate: template, rootfs: `${target.files}:0.1`, ostype: 'unmanaged', unprivileged: 1 },
  ...{ memory: 64, swap: 0 },
})

function post(fields: Fields, client: Client = target.client) {
  return client.post(`${nodePath}/lxc`, fields)
}

async function create(fields: Fields = {}): Promise<number> {
  const vmid = await target.vmid()
  expect(await ended(target, await post({ vmid, ...basics(), ...fields }))).toMatchObject({
    exitstatus: 'OK',
  })
  return vmid
}

const path = (vmid: number, what = '') => `${nodePath}/lxc/${vmid}${what}`

async function config(vmid: number): Promise<Config> {
  return (await target.client.get(path(vmid, '/config'))).body.data
}

async function run(vmid: number, what: string, fields: Fields = {}): Promise<string> {
  return (await ended(target, await target.client.post(path(vmid, what), fields))).exitstatus
}

async function destroy(vmid: number, query: Fields = {}): Promise<string> {
  return (await ended(target, await target.client.delete(path(vmid), { purge: 1, ...query }))).exitstatus
}

/** Of a container that was created with `start`: that goes on when the create has ended. */
async function isRunning(vmid: number): Promise<void> {
  const status = async () => (await target.client.get(path(vmid, '/status/current'))).body.data
  await expect.poll(status, { timeout: 30_000 }).toMatchObject({ status: 'running', pid: expect.any(Number) })
}

/** The conversion goes on after its answer. */
async function isTemplate(vmid: number): Promise<void> {
  await expect.poll(async () => (await config(vmid)).template, { timeout: 30_000 }).toBe(1)
}

async function volumes(storage: string, content: string): Promise<Record<string, unknown>[]> {
  return (await target.client.get(`${nodePath}/storage/${storage}/content`, { content })).body.data
}

describe('create', () => {
  test('19.1 parameters are checked before anything is made', async () => {
    const vmid = await target.vmid()
    expect((await post({ vmid })).body.errors).toEqual({
      ostemplate: 'property is missing and it is not optional',
    })
    const wrong = await post({ vmid, ...basics(), features: 'nesting=2', bogus: 1, password: 'abc' })
    expect(wrong.body.errors).toMatchObject({
      bogus: 'property is not defined in schema and the schema does not allow additional properties',
      features: expect.stringContaining("nesting: type check ('boolean') failed - got '2'"),
      password: 'value must be at least 5 characters long',
    })
    const net = await post({ vmid, ...basics(), net0: `bridge=${target.bridge},hwaddr=03:00:00:00:00:01` })
    expect(net.body.errors?.net0).toContain('value does not look like a valid unicast MAC address')
    expect(net.body.errors?.net0).toContain('name: property is missing and it is not optional')
    expect((await post({ vmid, ...basics(), rootfs: 'nostore:4' })).reason).toBe(
      "storage 'nostore' does not exist",
    )
    expect((await target.client.get(path(vmid, '/config'))).reason).toBe(
      `Configuration file 'nodes/${target.node}/lxc/${vmid}.conf' does not exist`,
    )
  })

  test('19.2 a missing template fails in the task, and leaves nothing', async () => {
    const vmid = await target.vmid()
    const none = `${target.files}:vztmpl/none.tar.zst`
    const reply = await post({ vmid, ...basics(), ostemplate: none })
    expect(reply.body.data).toMatch(/:vzcreate:/)
    expect((await ended(target, reply)).exitstatus).toBe(
      `unable to create CT ${vmid} - volume '${none}' does not exist`,
    )
    expect((await target.client.get(path(vmid, '/config'))).status).toBe(500)
    expect(await volumes(target.files, 'rootdir')).not.toContainEqual(expect.objectContaining({ vmid }))
  })

  test('19.3 defaults, and how Proxmox writes what it was given', async () => {
    const note = '{"schema":1}'
    const vmid = await create({
      ...{ hostname: 'snap-ct', description: note, tags: 'Zed;a', features: 'nesting=1' },
      net0: `name=eth0,ip=192.0.2.2/24,gw=192.0.2.1,bridge=${target.bridge}`,
    })
    const found = await config(vmid)
    expect(found).toMatchObject({
      ...{ arch: 'amd64', memory: 64, swap: 0, unprivileged: 1, ostype: 'unmanaged', hostname: 'snap-ct' },
      ...{ description: `${note}\n`, tags: 'a;zed', features: 'nesting=1' },
    })
    expect(found.net0).toMatch(
      /^name=eth0,bridge=[^,]+,gw=192\.0\.2\.1,hwaddr=BC:24:11(:[0-9A-F]{2}){3},ip=192\.0\.2\.2\/24,type=veth$/,
    )
    expect(found.rootfs).toMatch(
      new RegExp(`^${target.files}:${vmid}/vm-${vmid}-disk-0\\.raw,size=\\d+[KM]$`),
    )
    expect(found).not.toHaveProperty('cores')
    expect((await target.client.get(path(vmid, '/status/current'))).body.data).toMatchObject({
      ...{ vmid, type: 'lxc', name: 'snap-ct', status: 'stopped', maxmem: 64 << 20, maxswap: 0, uptime: 0 },
    })
    expect((await target.client.get(path(vmid, '/interfaces'))).body).toEqual({ data: null })
    expect((await volumes(target.files, 'rootdir')).map((volume) => volume.vmid)).toContain(vmid)
    expect(await destroy(vmid)).toBe('OK')
  })

  test('19.4 a VMID has one guest, of one kind', async () => {
    const vmid = await create()
    expect((await post({ vmid, ...basics() })).reason).toBe(
      `CT ${vmid} already exists on node '${target.node}'`,
    )
    expect((await target.client.post(`${nodePath}/qemu`, { vmid })).reason).toBe(
      `unable to create VM ${vmid} - CT ${vmid} already exists on node '${target.node}'`,
    )
    expect((await target.client.get(`${nodePath}/qemu/${vmid}/config`)).reason).toBe(
      `Configuration file 'nodes/${target.node}/qemu-server/${vmid}.conf' does not exist`,
    )
    expect((await target.client.get('/cluster/nextid', { vmid })).status).toBe(400)
    const machines = (await guestsInRange(target)).filter(({ kind }) => kind === 'qemu')
    expect(machines.map((guest) => guest.vmid)).not.toContain(vmid)
    const rows = (await target.client.get('/cluster/resources', { type: 'vm' })).body.data as { id: string }[]
    expect(rows.map(({ id }) => id)).toContain(`lxc/${vmid}`)
    expect(await destroy(vmid)).toBe('OK')
  })

  test('19.5 features but nesting, and any of a privileged container, are for the root@pam ticket', async () => {
    const vmid = await target.vmid()
    expect((await post({ vmid, ...basics(), features: 'keyctl=1,nesting=1' })).reason).toBe(
      'Permission check failed (changing feature flags (except nesting) is only allowed for root@pam)',
    )
    expect((await post({ vmid, ...basics(), features: 'nesting=1', unprivileged: 0 })).reason).toBe(
      'Permission check failed (changing feature flags for privileged container is only allowed for root@pam)',
    )
    const { root } = target
    if (root === undefined) return
    expect(await ended(target, await post({ vmid, ...basics(), features: 'keyctl=1' }, root))).toMatchObject({
      exitstatus: 'OK',
    })
    expect(await destroy(vmid)).toBe('OK')
  })
})

describe('config', () => {
  test('20.1 changes, and what cannot be changed', async () => {
    const vmid = await create({ description: 'one' })
    const put = (fields: Fields) => target.client.put(path(vmid, '/config'), fields)
    const { digest } = await config(vmid)
    expect((await put({})).reason).toBe('no options specified')
    expect(
      (await put({ tags: 'Zed;a,B c', memory: 96, description: 'two\nlines', digest: String(digest) })).body,
    ).toEqual({ data: null })
    expect(await config(vmid)).toMatchObject({ tags: 'a;b;c;zed', memory: 96, description: 'two\nlines\n' })
    expect((await put({ cores: 1, digest: String(digest) })).reason).toBe(
      'detected modified configuration - file changed by other user? Try again.',
    )
    expect((await put({ unprivileged: 0 })).reason).toMatch(
      /unable to modify read-only option: 'unprivileged'/,
    )
    expect((await put({ delete: 'description' })).status).toBe(200)
    expect(await config(vmid)).not.toHaveProperty('description')
    expect(await destroy(vmid)).toBe('OK')
  })

  test('20.2 protection and locks refuse DELETE at once', async () => {
    const vmid = await create({ protection: 1 })
    expect((await target.client.delete(path(vmid))).reason).toBe(
      `can't remove CT ${vmid} - protection mode enabled`,
    )
    await target.client.put(path(vmid, '/config'), { protection: 0 })
    expect(await destroy(vmid)).toBe('OK')
  })

  test('20.3 resize is judged at once, and done in a task', async () => {
    const vmid = await create()
    const resize = (size: string) => target.client.put(path(vmid, '/resize'), { disk: 'rootfs', size })
    expect((await resize('1M')).reason).toBe('unable to shrink disk size')
    expect(await ended(target, await resize('+32M'))).toMatchObject({ exitstatus: 'OK' })
    expect(await destroy(vmid)).toBe('OK')
  })

  test('20.4 directory storage has neither snapshots nor linked clones of containers', async () => {
    const vmid = await create()
    expect(await run(vmid, '/snapshot', { snapname: 's1' })).toBe('snapshot feature is not available')
    expect(
      (await target.client.get(path(vmid, '/feature'), { feature: 'snapshot' })).body.data,
    ).toMatchObject({
      hasFeature: 0,
    })
    const reply = await target.client.post(path(vmid, '/clone'), { newid: await target.vmid(), full: 0 })
    expect(reply.reason).toMatch(/^Linked clone feature for '.*' is not available$/)
    expect(await destroy(vmid)).toBe('OK')
  })

  test('20.5 block storage has both', async ({ skip }) => {
    const { block } = target
    if (block === undefined) return skip(NO_BLOCK)
    const vmid = await create({ rootfs: `${block}:0.1`, description: 'before' })
    expect(await run(vmid, '/snapshot', { snapname: 'one' })).toBe('OK')
    await target.client.put(path(vmid, '/config'), { description: 'after' })
    expect(await run(vmid, '/snapshot/one/rollback')).toBe('OK')
    expect((await config(vmid)).description).toBe('after\n')
    expect((await target.client.post(path(vmid, '/template'))).reason).toBe(
      'unable to create template, because CT contains snapshots',
    )
    const dropped = await target.client.delete(path(vmid, '/snapshot/one'))
    expect((await ended(target, dropped)).exitstatus).toBe('OK')
    expect((await target.client.post(path(vmid, '/template'))).body).toEqual({ data: null })
    await isTemplate(vmid)
    const newid = await target.vmid()
    expect(await run(vmid, '/clone', { newid })).toBe('OK')
    expect(await destroy(newid)).toBe('OK')
    expect(await destroy(vmid)).toBe('OK')
  })
})

describe('a running container', () => {
  test('21.1 states that do not fit are refused at once', async () => {
    const vmid = await create()
    for (const action of ['stop', 'shutdown']) {
      expect((await target.client.post(path(vmid, `/status/${action}`))).reason).toBe(
        `CT ${vmid} not running`,
      )
    }
    expect(await destroy(vmid)).toBe('OK')
  })

  test('21.2 from a template to a template: start, interfaces, shutdown, clone, backup, restore', async () => {
    const net0 = `name=eth0,bridge=${target.bridge},hwaddr=02:1B:AA:00:00:10,ip=manual`
    const vmid = await create({ hostname: 'tiny', net0, start: 1, description: 'a: 100%', tags: 'one' })
    await isRunning(vmid)
    const eth0 = async () => {
      const all = (await target.client.get(path(vmid, '/interfaces'))).body.data as Record<string, unknown>[]
      return all.find(({ name }) => name === 'eth0')
    }
    await expect.poll(eth0, { timeout: 30_000 }).toMatchObject({
      ...{ hwaddr: '02:1b:aa:00:00:10', 'hardware-address': '02:1b:aa:00:00:10', inet: `${ADDRESS}/24` },
      'ip-addresses': expect.arrayContaining([
        { 'ip-address': ADDRESS, 'ip-address-type': 'inet', prefix: '24' },
      ]),
    })
    expect((await target.client.post(path(vmid, '/status/start'))).reason).toBe(`CT ${vmid} already running`)
    expect((await target.client.post(path(vmid, '/template'))).reason).toBe(
      "you can't convert a CT to template if the CT is running",
    )
    expect((await target.client.delete(path(vmid))).reason).toBe(
      `unable to destroy CT ${vmid} - container is running`,
    )
    await target.client.put(path(vmid, '/config'), { memory: 80, ostype: 'unmanaged', tty: 3 })
    const pending = (await target.client.get(path(vmid, '/pending'))).body.data as Config[]
    expect(pending).toContainEqual({ key: 'memory', value: 80 })
    expect(pending).toContainEqual({ key: 'tty', pending: 3 })
    expect(await run(vmid, '/status/shutdown', { timeout: 30 })).toBe('OK')

    expect((await target.client.post(path(vmid, '/template'))).body).toEqual({ data: null })
    await isTemplate(vmid)
    expect((await config(vmid)).rootfs).toMatch(/base-\d+-disk-0\.raw,size=/)
    expect((await target.client.post(path(vmid, '/template'))).reason).toBe(
      "you can't convert a template to a template",
    )
    expect(await run(vmid, '/status/start')).toBe("you can't start a CT if it's a template")

    const newid = await target.vmid()
    expect(await run(vmid, '/clone', { newid, full: 1, hostname: 'c2' })).toBe('OK')
    const cloned = await config(newid)
    expect(cloned).toMatchObject({
      hostname: 'c2',
      tags: 'one',
      description: 'a: 100%\n',
      memory: 80,
    })
    expect(cloned.net0).toMatch(/hwaddr=BC:24:11/)
    expect(cloned).not.toHaveProperty('template')
    expect(await run(newid, '/status/start')).toBe('OK')
    expect(await run(newid, '/status/reboot', { timeout: 30 })).toBe('OK')
    expect(await run(newid, '/status/stop')).toBe('OK')
    expect(await destroy(newid)).toBe('OK')

    const dump = await target.client.post(`${nodePath}/vzdump`, {
      ...{ vmid, storage: target.files, mode: 'stop', compress: 'zstd', remove: 0 },
      'notes-template': '{{guestname}} by tool',
    })
    const dumped = await ended(target, dump)
    expect(dumped).toMatchObject({ exitstatus: 'OK' })
    expect(dumped.log).toContain('INFO: status = stopped')
    const backup = (await volumes(target.files, 'backup')).find((volume) => volume.vmid === vmid)
    expect(backup).toMatchObject({
      ...{ content: 'backup', format: 'tar.zst', subtype: 'lxc', notes: 'tiny by tool' },
    })
    const volid = String(backup?.volid)
    expect(volid).toMatch(/:backup\/vzdump-lxc-\d+-\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d\.tar\.zst$/)
    expect(await destroy(vmid)).toBe('OK')

    const restored = await target.vmid()
    const restore = await post({ vmid: restored, ostemplate: volid, restore: 1, storage: target.files })
    expect(restore.body.data).toMatch(/:vzrestore:/)
    expect(await ended(target, restore)).toMatchObject({ exitstatus: 'OK' })
    const after = await config(restored)
    expect(after).toMatchObject({ hostname: 'tiny', description: 'a: 100%\n', memory: 80, unprivileged: 1 })
    expect(after.net0).toContain('hwaddr=02:1B:AA:00:00:10')
    expect(after.template).toBe(1)
    expect(after.rootfs).toMatch(/base-\d+-disk-0\.raw,size=/)
    expect(await destroy(restored)).toBe('OK')
    const content = `${nodePath}/storage/${target.files}/content/${encodeURIComponent(volid)}`
    expect((await target.client.delete(content, { delay: 10 })).body).toEqual({ data: null })
    expect((await volumes(target.files, 'backup')).map((volume) => volume.volid)).not.toContain(volid)
  })
})

describe('a container that is busy', () => {
  test('21.6 while it is created it is locked; stopping that leaves nothing', async (context) => {
    if (!target.processes) return context.skip(NO_PROCESSES)
    const vmid = await target.vmid()
    const volid = await upload('large_1_amd64.tar.zst', await tinyArchive({ ballast: 64 << 20 }))
    const held = holdProcess(
      context,
      async (found) => /\btar\0(?:--extract|xpf)\0/.test(found.command) && target.isProcessOf(vmid, found),
    )
    const reply = await post({ vmid, ...basics(), ostemplate: volid })
    const goOn = await held
    expect((await config(vmid)).lock).toBe('create')
    expect((await target.client.delete(path(vmid))).reason).toBe('CT is locked (create)')
    const task = `${nodePath}/tasks/${encodeURIComponent(reply.body.data as string)}`
    await target.client.delete(task)
    goOn()
    expect((await ended(target, reply)).exitstatus).toMatch(
      new RegExp(`^unable to create CT ${vmid} - command '.*\\btar .*' failed: received interrupt$`),
    )
    expect((await target.client.get(path(vmid, '/config'))).status).toBe(500)
    expect(await volumes(target.files, 'images')).not.toContainEqual(expect.objectContaining({ vmid }))
  })

  test('21.7 it stands still for its snapshot, and is stopped for its backup', async ({ skip }) => {
    const { block } = target
    if (block === undefined) return skip(NO_BLOCK)
    const vmid = await create({ rootfs: `${block}:0.1`, start: 1 })
    await isRunning(vmid)
    expect(await run(vmid, '/snapshot', { snapname: 'live' })).toBe('OK')
    const pid = async () => ((await target.client.get(path(vmid, '/status/current'))).body.data as Config).pid
    const before = await pid()
    const dump = await ended(
      target,
      await target.client.post(`${nodePath}/vzdump`, {
        vmid,
        storage: target.files,
        mode: 'stop',
        compress: 'gzip',
      }),
    )
    expect(dump).toMatchObject({ exitstatus: 'OK' })
    expect(await pid()).toEqual(expect.any(Number))
    expect(await pid()).not.toBe(before)
    expect(await config(vmid)).not.toHaveProperty('lock')
    const backup = (await volumes(target.files, 'backup')).find((volume) => volume.vmid === vmid)
    expect(backup).toMatchObject({ format: 'tar.gz' })
    expect(await run(vmid, '/snapshot/live/rollback')).toBe('OK')
    expect(await destroy(vmid, { force: 1 })).toBe('OK')
    const newid = await target.vmid()
    const restore = { vmid: newid, ostemplate: String(backup?.volid), restore: 1, rootfs: `${block}:0.2` }
    expect(await ended(target, await post({ ...restore, hostname: 'other' }))).toMatchObject({
      exitstatus: 'OK',
    })
    expect(await config(newid)).toMatchObject({ hostname: 'other', unprivileged: 1 })
    expect(await config(newid)).not.toHaveProperty('template')
    expect(await run(newid, '/status/start')).toBe('OK')
    expect(await run(newid, '/status/shutdown', { timeout: 30 })).toBe('OK')
    expect(await destroy(newid)).toBe('OK')
    const content = `${nodePath}/storage/${target.files}/content/${encodeURIComponent(String(backup?.volid))}`
    expect((await target.client.delete(content, { delay: 10 })).status).toBe(200)
  })

  test('21.8 its console', async ({ skip }) => {
    const { root } = target
    if (root === undefined) return skip(NO_ROOT)
    if (!target.consoles) return skip(NO_CONSOLES)
    const vmid = await create({ net0: `name=eth0,bridge=${target.bridge}` })
    if (target.lab) expect((await root.post(path(vmid, '/termproxy'))).reason).toBe(`CT ${vmid} not running`)
    expect(await run(vmid, '/status/start')).toBe('OK')
    const it = (await root.post(path(vmid, '/termproxy'))).body.data as Record<string, string>
    const query = new URLSearchParams({ port: String(it.port), vncticket: String(it.ticket) })
    const url = `${root.base.replace(/^http/, 'ws')}/api2/json${path(vmid, '/vncwebsocket')}?${query}`
    const socket = new WebSocket(url, ['binary'], { ...pinned(target), headers: root.headers() })
    let text = ''
    socket.on('open', () => socket.send(`${it.user}:${it.ticket}\n`))
    socket.on('message', (data: Buffer) => {
      text += data.toString()
    })
    // What was said before one came is the lab's alone to tell.
    const said = target.lab ? /^OK[\s\S]*tiny is up/ : /^OK/
    await expect.poll(() => text, { timeout: 30_000 }).toMatch(said)
    socket.close()
    expect((await ended(target, it.upid as string)).exitstatus).toBe('OK')
    expect(await run(vmid, '/status/stop')).toBe('OK')
    expect(await destroy(vmid)).toBe('OK')
  })
})

describe('what the lab does not have', () => {
  test('21.3 it refuses, instead of passing over it', async ({ skip }) => {
    if (!target.lab) return skip(LAB_REFUSES)
    const vmid = await create()
    for (const option of [
      { mp0: `${target.files}:1,mp=/data` },
      { rootfs: `${target.files}:1/vm-1-disk-0.raw` },
    ]) {
      expect((await post({ ...basics(), vmid: await target.vmid(), ...option })).status).toBe(501)
    }
    expect(
      (await target.client.post(`${nodePath}/vzdump`, { vmid, protected: 1, storage: target.files })).status,
    ).toBe(501)
    expect(await destroy(vmid)).toBe('OK')
  })
})

describe('privileges', () => {
  test('21.4 name what is missing', async () => {
    const nobody = await asOwnUser(target, 'nobody')
    const vmid = await create()
    const refused = async (reply: Promise<{ status: number; reason: string }>) => {
      const { status, reason } = await reply
      expect(status).toBe(403)
      return reason.replace(/^Permission check failed ?/, '')
    }
    expect(await refused(post({ vmid: await target.vmid(), ...basics() }, nobody))).toBe('')
    expect(await refused(nobody.get(path(vmid, '/config')))).toBe(`(/vms/${vmid}, VM.Audit)`)
    expect(await refused(nobody.post(path(vmid, '/status/start')))).toBe(`(/vms/${vmid}, VM.PowerMgmt)`)
    expect(await refused(nobody.delete(path(vmid)))).toBe(`(/vms/${vmid}, VM.Allocate)`)
    const vzdump = { vmid, storage: target.files }
    expect(await refused(nobody.post(`${nodePath}/vzdump`, vzdump))).toBe(
      `(/storage/${target.files}, Datastore.AllocateSpace)`,
    )
    const acl = { path: `/storage/${target.files}`, roles: 'PVEDatastoreUser', users: ownUser(target.own) }
    expect((await target.client.put('/access/acl', acl)).status).toBe(200)
    const user = await asOwnUser(target, 'keeper', 0)
    expect((await ended(target, await user.post(`${nodePath}/vzdump`, vzdump))).exitstatus).toBe(
      `403 Permission check failed (/vms/${vmid}, VM.Backup)`,
    )
    await user.close()
    const aplinfo = { storage: target.files, template: ownFile(target.own, 'x.tar.zst') }
    expect(await refused(nobody.post(`${nodePath}/aplinfo`, aplinfo))).toBe(
      `(/storage/${target.files}, Datastore.AllocateTemplate)`,
    )
    expect((await nobody.get(`${nodePath}/lxc`)).body.data).toEqual([])
    await nobody.close()
    expect(await destroy(vmid)).toBe('OK')
  })

  test('21.5 of a pool are enough to create in it', async () => {
    const { client, own } = target
    const pool = `${ownPool(own)}-containers`
    expect((await client.post('/pools', { poolid: pool })).status).toBe(200)
    const member = await asOwnUser(target, 'member', 0)
    const grant = async (at: string, roles: string) => {
      const granted = await client.put('/access/acl', { path: at, roles, users: ownUser(own) })
      expect(granted.status).toBe(200)
    }
    await grant(`/pool/${pool}`, 'PVEVMAdmin')
    await grant(`/storage/${target.files}`, 'PVEDatastoreUser')
    const vmid = await target.vmid()
    const reply = await post({ vmid, ...basics(), features: 'nesting=1', pool }, member)
    expect(await ended(target, reply)).toMatchObject({ exitstatus: 'OK' })
    const { members } = (await client.get(`/pools/${pool}`)).body.data as { members: unknown[] }
    expect(members).toMatchObject([{ id: `lxc/${vmid}`, type: 'lxc', vmid }])
    const net = { net0: `name=eth0,bridge=${target.bridge}` }
    expect((await member.put(path(vmid, '/config'), net)).reason).toBe(
      `Permission check failed (/sdn/zones/localnetwork/${target.bridge}, SDN.Use)`,
    )
    expect((await member.delete(path(vmid))).body.data).toMatch(/:vzdestroy:/)
    await member.close()
  })
})

describe('appliances', () => {
  test('22.1 of which only those on the list can be fetched', async () => {
    const wanted = { storage: target.files, template: ownFile(target.own, 'none.tar.zst') }
    expect((await target.client.post(`${nodePath}/aplinfo`, wanted)).body.errors).toEqual({
      template: 'no such template',
    })
  })

  test('22.1 come from the list, with their checksum verified', async ({ skip }) => {
    const { appliances } = target
    if (appliances === undefined) return skip(LAB_APPLIANCES)
    const aplinfo = `${nodePath}/aplinfo`
    expect((await target.client.get(aplinfo)).body).toEqual({ data: [] })
    const data = await tinyArchive()
    const web = createServer((_request, response) => response.end(data))
    await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve))
    const base = `http://127.0.0.1:${(web.address() as AddressInfo).port}`
    const paragraph = (name: string, checksum: string) =>
      [
        ...[`Package: ${name}`, 'Version: 1', 'Type: lxc', 'OS: linux', 'Section: system'],
        ...['Maintainer: Nobody <nobody@example.org>', 'Architecture: amd64'],
        `Location: ${base}/${name}_1_amd64.tar.zst`,
        `sha512sum: ${checksum}`,
        ...['Infopage: https://example.org', 'Description: A tiny one', ' with a few', ' more lines', ''],
      ].join('\n')
    const [tiny, broken] = [ownFile(target.own, 'small'), ownFile(target.own, 'broken')]
    const good = createHash('sha512').update(data).digest('hex')
    await writeFile(appliances, [paragraph(tiny, good), paragraph(broken, '00')].join('\n'))
    expect((await target.client.get(aplinfo)).body.data).toContainEqual({
      ...{
        package: tiny,
        version: '1',
        type: 'lxc',
        os: 'linux',
        section: 'system',
        architecture: 'amd64',
      },
      ...{ maintainer: 'Nobody <nobody@example.org>', sha512sum: good, infopage: 'https://example.org' },
      ...{ headline: 'A tiny one', description: 'with a few more lines' },
      ...{ location: `${base}/${tiny}_1_amd64.tar.zst`, template: `${tiny}_1_amd64.tar.zst` },
    })
    const fetch = async (name: string) =>
      target.client.post(aplinfo, { storage: target.files, template: name })
    const reply = await fetch(`${tiny}_1_amd64.tar.zst`)
    expect(reply.body.data).toContain(`:download:${tiny}_1_amd64.tar.zst:`)
    const task = await ended(target, reply)
    expect(task.exitstatus).toBe('OK')
    expect(task.log).toContain('OK, checksum verified')
    const again = await ended(target, await fetch(`${tiny}_1_amd64.tar.zst`))
    expect(again.log).toContain('OK, got correct file already, no need to download')
    expect((await ended(target, await fetch(`${broken}_1_amd64.tar.zst`))).exitstatus).toMatch(
      /^checksum mismatch/,
    )
    const names = (await volumes(target.files, 'vztmpl')).map(({ volid }) => volid)
    expect(names).toContain(`${target.files}:vztmpl/${tiny}_1_amd64.tar.zst`)
    expect(names).not.toContain(`${target.files}:vztmpl/${broken}_1_amd64.tar.zst`)
    web.close()
    web.closeAllConnections()
  })
})
