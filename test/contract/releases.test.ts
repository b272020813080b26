import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Client, Fields } from './client.ts'
import { guestCalls, tinyContainer } from './guest-calls.ts'
import { ownFile, ownRole, ownUser } from './own.ts'
import { asOwnUser } from './own-user.ts'
import { systemdArchive } from './systemd-archive.ts'
import { type Ended, ended, RELEASES, startTarget, type Target } from './target.ts'

/** Clauses of pve.md that say another thing for each release, but for tags (tags.test.ts), locks and consoles. */

describe.each(RELEASES)('$name', ({ pve }) => {
  let target: Target
  let machines: ReturnType<typeof guestCalls>
  let containers: ReturnType<typeof guestCalls>
  let isNine: boolean

  beforeAll(async () => {
    target = await startTarget(pve && { pve })
    machines = guestCalls(target, 'qemu')
    containers = guestCalls(target, 'lxc')
    isNine = target.version >= 9
  })
  afterAll(() => target?.stop())

  let granted: Fields[] = []
  afterEach(async () => {
    for (const acl of granted) await target.client.put('/access/acl', { ...acl, delete: 1 })
    granted = []
  })

  /** The suite's user, who has these roles on these paths until the test ends. */
  async function user(token: string, roles: Record<string, string> = {}): Promise<Client> {
    const client = await asOwnUser(target, token, 0)
    for (const [path, names] of Object.entries(roles)) {
      const acl = { path, roles: names, users: ownUser(target.own) }
      expect((await target.client.put('/access/acl', acl)).status).toBe(200)
      granted.push(acl)
    }
    return client
  }

  test('2.5 the privileges on guests', async () => {
    const privileges = (await target.client.get('/access/roles/Administrator')).body.data as Fields
    const nine = ['Audit', 'FileRead', 'FileSystemMgmt', 'FileWrite', 'Unrestricted'].map(
      (name) => `VM.GuestAgent.${name}`,
    )
    const of = Object.keys(privileges).filter((name) => /^VM\.(?:GuestAgent|Monitor|Replicate)/.test(name))
    expect(of.sort()).toEqual(isNine ? [...nine, 'VM.Replicate'] : ['VM.Monitor'])
    const roleid = ownRole(target.own)
    const wrong = isNine ? 'VM.Monitor' : 'VM.GuestAgent.Audit'
    const made = await target.client.post('/access/roles', { roleid, privs: `VM.Audit,${wrong},VM.Clone` })
    expect(made.status).toBe(400)
    expect(made.body.errors).toEqual({ privs: `invalid format - invalid privilege '${wrong}'\n` })
    expect((await target.client.get(`/access/roles/${roleid}`)).status).toBe(500)
  })

  test('7.3 a plain .tar is an archive for containers', async () => {
    const name = ownFile(target.own, 'plain.tar')
    const reply = await target.client.upload(`/nodes/${target.node}/storage/${target.files}/upload`, [
      ['content', 'vztmpl'],
      ['filename', { name, data: Buffer.alloc(10240) }],
    ])
    if (!isNine) {
      expect(reply.body.errors).toEqual({ filename: 'wrong file extension' })
      return
    }
    expect((await ended(target, reply)).exitstatus).toBe('OK')
    const path = `/nodes/${target.node}/storage/${target.files}/content`
    const rows = (await target.client.get(path, { content: 'vztmpl' })).body.data as Fields[]
    expect(rows).toContainEqual(
      expect.objectContaining({ volid: `${target.files}:vztmpl/${name}`, format: 'tar' }),
    )
  })

  test('8.4 tags, description, drives and cards come back as Proxmox writes them', async () => {
    const note = '{"a":"ü & <b>%20+","nl":"x\ny"}'
    const vmid = await machines.create({
      ...{ memory: 64, name: 'contract', tags: 'Zed;a,B c', description: note },
      ...{ net0: `virtio,bridge=${target.bridge}`, scsi0: `${target.files}:1,format=qcow2,discard=on` },
      ...{ ide2: `${target.files}:cloudinit`, boot: 'order=scsi0' },
    })
    const before = await machines.config(vmid)
    const tags = isNine ? 'a;b;c;zed' : 'Zed;a,B c'
    expect(before).toMatchObject({ tags, description: note, boot: 'order=scsi0' })
    expect(before.scsi0).toMatch(/:.*vm-\d+-disk-0\.qcow2,discard=on,size=1G$/)
    expect(before.ide2).toMatch(/:.*vm-\d+-cloudinit\.qcow2,media=cdrom/)
    expect(before.net0).toMatch(/^virtio=BC:24:11(:[0-9A-F]{2}){3},bridge=/)
    expect((await machines.put(vmid, { tags: 'Zed;a,B c' })).body).toEqual({ data: null })
    expect((await machines.config(vmid)).tags).toBe('a;b;c;zed')
    expect(await machines.destroy(vmid)).toBe('OK')
  })

  test('8.8 a create with start=1 takes the privilege to start', async () => {
    const client = await user('starter', { '/vms': 'PVETemplateUser' })
    const reply = await client.post(`/nodes/${target.node}/qemu`, { vmid: await target.vmid(), start: 1 })
    expect(reply.status).toBe(403)
    if (isNine) expect(reply.reason).toMatch(/^Permission check failed \(\/vms\/\d+, VM\.PowerMgmt\)$/)
    else expect(reply.reason).toBe('Permission check failed')
    await client.close()
  })

  test('10.3 the efidisk may say which keys of Microsoft it has', async () => {
    const efidisk = `${target.files}:1,efitype=4m,pre-enrolled-keys=0,ms-cert=2023`
    const vmid = await machines.create({ memory: 64, bios: 'ovmf', efidisk0: efidisk })
    expect((await machines.config(vmid)).efidisk0).toMatch(/,ms-cert=2023,pre-enrolled-keys=0,size=\d+K$/)
    expect(await machines.destroy(vmid)).toBe('OK')
  })

  test('12.5 the log of a clone says what it makes', async () => {
    const vmid = await machines.create({ memory: 64 })
    const newid = await target.vmid()
    const task = await ended(target, await target.client.post(machines.path(vmid, '/clone'), { newid }))
    expect(task.exitstatus).toBe('OK')
    expect(task.log.includes(`creating a clone of VM ${vmid} with ID ${newid}`)).toBe(isNine)
    for (const made of [newid, vmid]) expect(await machines.destroy(made)).toBe('OK')
  })

  test('13.2 a missing bridge fails at start', async () => {
    const there = (await target.client.get(`/nodes/${target.node}/network`)).body.data as { iface: string }[]
    const names = new Set(there.map(({ iface }) => iface))
    let number = 77
    while (names.has(`vmbr${number}`)) number++
    const vmid = await machines.create({ memory: 64, net0: `virtio,bridge=vmbr${number}` })
    const task = await ended(target, await target.client.post(machines.path(vmid, '/status/start')))
    const missing = `bridge 'vmbr${number}' does not exist`
    if (!isNine) expect(task.log).toContain(missing)
    expect(task.exitstatus).toBe(isNine ? missing : 'start failed: QEMU exited with code 1')
    expect(await machines.destroy(vmid)).toBe('OK')
  })

  test('18.3 what calls of the guest agent and of the monitor ask for', async () => {
    const vmid = await machines.create({ memory: 64 })
    const nobody = await user('nobody')
    const needs = async (method: 'get' | 'post', what: string, fields: Fields = {}) => {
      const { status, reason } = await nobody[method](machines.path(vmid, what), fields)
      expect(status).toBe(403)
      return reason.replace(`Permission check failed (/vms/${vmid}, `, '').replace(/\)$/, '')
    }
    const agent = (...names: string[]) =>
      isNine ? [...names, 'VM.GuestAgent.Unrestricted'].join('|') : 'VM.Monitor'
    expect(await needs('post', '/agent/ping')).toBe(agent('VM.GuestAgent.Audit'))
    expect(await needs('get', '/agent/network-get-interfaces')).toBe(agent('VM.GuestAgent.Audit'))
    expect(await needs('post', '/agent/fsfreeze-status')).toBe(
      agent('VM.GuestAgent.Audit', 'VM.GuestAgent.FileSystemMgmt'),
    )
    expect(await needs('post', '/agent/fstrim')).toBe(agent('VM.GuestAgent.FileSystemMgmt'))
    expect(await needs('post', '/agent/shutdown')).toBe(agent('VM.PowerMgmt'))
    expect(await needs('get', '/agent/file-read', { file: '/a' })).toBe(agent('VM.GuestAgent.FileRead'))
    expect(await needs('post', '/agent/file-write', { file: '/a', content: 'b' })).toBe(
      agent('VM.GuestAgent.FileWrite'),
    )
    expect(await needs('post', '/agent/exec', { command: 'true' })).toBe(agent())
    expect(await needs('get', '/agent/exec-status', { pid: 1 })).toBe(agent())
    const monitor = isNine ? 'Sys.Audit|Sys.Modify' : 'VM.Monitor'
    expect(await needs('post', '/monitor', { command: 'info status' })).toBe(monitor)
    await nobody.close()
    const change = { command: 'change ide2 /etc/passwd' }
    const changed = await target.client.post(machines.path(vmid, '/monitor'), change)
    if (isNine) expect(changed).toMatchObject({ status: 500, reason: "root-only command 'change'" })
    else expect(changed.body.data).toMatch(/^ERROR: .*not running/)
    expect(await machines.destroy(vmid)).toBe('OK')
  })

  test('18.4 the monitor’s commands that change something ask for Sys.Modify', async () => {
    const vmid = await machines.create({ memory: 64 })
    const reader = await user('reader', { '/vms': isNine ? 'PVEAuditor' : 'PVEVMAdmin' })
    const reply = await reader.post(machines.path(vmid, '/monitor'), { command: 'sendkey ret' })
    expect(reply).toMatchObject({ status: 403, reason: 'Permission check failed (/, Sys.Modify)' })
    await reader.close()
    expect(await machines.destroy(vmid)).toBe('OK')
  })

  test('18.5 a part of a file can be asked for', async () => {
    const vmid = await machines.create({ memory: 64, agent: 1 })
    const part = { file: '/etc/hostname', offset: 2, count: 3, decode: 0 }
    const reply = await target.client.get(machines.path(vmid, '/agent/file-read'), part)
    const unknown = 'property is not defined in schema and the schema does not allow additional properties'
    if (isNine) expect(reply).toMatchObject({ status: 500, reason: `VM ${vmid} is not running` })
    else expect(reply.body.errors).toEqual({ offset: unknown, count: unknown, decode: unknown })
    expect(await machines.destroy(vmid)).toBe('OK')
  })

  test('19.8 who asks for nothing gets an unprivileged container, or a privileged one', async () => {
    const tiny = await tinyContainer(target)
    const vmid = await containers.create(tiny)
    expect((await containers.config(vmid)).unprivileged).toBe(isNine ? 1 : undefined)
    expect(await containers.destroy(vmid)).toBe('OK')
    const nobody = await user('nobody-else')
    const privileged = { ...tiny, vmid: await target.vmid(), unprivileged: 0 }
    const reply = await nobody.post(`/nodes/${target.node}/lxc`, privileged)
    expect(reply).toMatchObject({
      status: 403,
      reason: `Permission check failed${isNine ? ' (/, Sys.Modify)' : ''}`,
    })
    await nobody.close()
  })

  /** @returns the backup's volid, and how the task has ended */
  async function backUp(vmid: number): Promise<Ended & { archive: string }> {
    const dump = { vmid, storage: target.files, mode: 'stop', compress: 'zstd' }
    const task = await ended(target, await target.client.post(`/nodes/${target.node}/vzdump`, dump))
    const path = `/nodes/${target.node}/storage/${target.files}/content`
    const rows = (await target.client.get(path, { content: 'backup', vmid })).body.data as { volid: string }[]
    return { ...task, archive: rows[0]?.volid as string }
  }

  test('19.8 nor is one restored as privileged by who may not make it', async () => {
    const tiny = await tinyContainer(target)
    const keeper = await user('keeper', {
      ...{ '/vms': 'PVEVMAdmin', [`/storage/${target.files}`]: 'PVEDatastoreAdmin' },
    })
    /** @returns what the new container's configuration says of it, or how its task has failed */
    const restored = async (archive: string, client: Client, fields: Fields = {}) => {
      const vmid = await target.vmid()
      const what = { vmid, ostemplate: archive, restore: 1, storage: target.files, ...fields }
      const task = await ended(target, await client.post(`/nodes/${target.node}/lxc`, what))
      if (task.exitstatus !== 'OK') return task.exitstatus.replace(`unable to restore CT ${vmid} - `, '')
      const { unprivileged = 0 } = await containers.config(vmid)
      expect(await containers.destroy(vmid)).toBe('OK')
      return unprivileged
    }
    const refused = isNine ? '403 Permission check failed (/, Sys.Modify)' : 0

    const privileged = await containers.create({ ...tiny, unprivileged: 0 })
    const ofPrivileged = await backUp(privileged)
    expect(ofPrivileged.exitstatus).toBe('OK')
    expect(await restored(ofPrivileged.archive, keeper)).toBe(refused)
    expect(await restored(ofPrivileged.archive, keeper, { unprivileged: 1 })).toBe(1)

    // What the call says goes before what the backup says, a 0 too.
    const unprivileged = await containers.create({ ...tiny, unprivileged: 1 })
    const ofUnprivileged = await backUp(unprivileged)
    expect(ofUnprivileged.exitstatus).toBe('OK')
    expect(await restored(ofUnprivileged.archive, keeper)).toBe(1)
    expect(await restored(ofUnprivileged.archive, keeper, { unprivileged: 0 })).toBe(refused)
    expect(await restored(ofUnprivileged.archive, target.client, { unprivileged: 0 })).toBe(0)

    await keeper.close()
    for (const made of [privileged, unprivileged]) expect(await containers.destroy(made)).toBe('OK')
  })

  test('19.9 a systemd without nesting is warned of, whenever Proxmox has looked', async () => {
    const basics = {
      ...(await tinyContainer(target, await systemdArchive())),
      unprivileged: 1,
      ostype: 'debian',
    }
    const warning = 'WARN: Systemd 252 detected. You may need to enable nesting.'
    const seen = isNine ? { exitstatus: 'WARNINGS: 1' } : { exitstatus: 'OK' }
    const vmid = await target.vmid()
    const created = await ended(target, await containers.post({ vmid, ...basics }))
    expect(created).toMatchObject(seen)
    expect(created.log.includes(warning)).toBe(isNine)
    const newid = await target.vmid()
    const cloned = await target.client.post(containers.path(vmid, '/clone'), { newid, full: 1 })
    expect(await ended(target, cloned)).toMatchObject(seen)
    for (const action of ['start', 'reboot']) {
      const task = await ended(target, await target.client.post(containers.path(vmid, `/status/${action}`)))
      expect(task).toMatchObject(seen)
      expect(task.log.includes(warning)).toBe(isNine)
    }
    const backup = await backUp(vmid)
    expect(backup).toMatchObject(seen)
    expect(backup.log).toContain('INFO: restarting vm')
    expect(backup.log.includes(warning)).toBe(isNine)
    const stopping = await target.client.post(containers.path(vmid, '/status/stop'))
    expect((await ended(target, stopping)).exitstatus).toBe('OK')
    const nested = await containers.create({ ...basics, features: 'nesting=1' })
    for (const made of [vmid, newid, nested]) expect(await containers.destroy(made)).toBe('OK')
  })
})
