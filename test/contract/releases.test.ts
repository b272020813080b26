import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { builtInRoles } from './built-in-roles.ts'
import { guestCalls } from './guest-calls.ts'
import { ownRole } from './own.ts'
import { ownGrants } from './own-user.ts'
import { ended, RELEASES, startTarget, type Target } from './target.ts'

/**
 * Clauses of pve.md that say another thing for each release, but for containers, agents, tags, locks and consoles, which
 * have files of their own.
 */

describe.each(RELEASES)('$name', ({ pve }) => {
  let target: Target
  let machines: ReturnType<typeof guestCalls>
  let isNine: boolean

  beforeAll(async () => {
    target = await startTarget(pve && { pve })
    machines = guestCalls(target, 'qemu')
    isNine = target.version >= 9
  })
  afterAll(() => target?.stop())

  const granted = ownGrants(() => target)
  afterEach(() => granted.takeBack())

  test('2.5 the roles that there are, and their privileges', async () => {
    const rows = (await target.client.get('/access/roles')).body.data as {
      roleid: string
      privs: string
      special?: number
    }[]
    const special = rows.filter((row) => row.special === 1)
    const found = special.map(({ roleid, privs }) => [
      roleid,
      privs
        .split(',')
        .filter((name) => name !== '')
        .sort(),
    ])
    expect(Object.fromEntries(found)).toEqual(builtInRoles(isNine ? 9 : 8))
    const roleid = ownRole(target.own)
    const wrong = isNine ? 'VM.Monitor' : 'VM.GuestAgent.Audit'
    const made = await target.client.post('/access/roles', { roleid, privs: `VM.Audit,${wrong},VM.Clone` })
    expect(made.status).toBe(400)
    expect(made.body.errors).toEqual({ privs: `invalid format - invalid privilege '${wrong}'\n` })
    expect((await target.client.get(`/access/roles/${roleid}`)).status).toBe(500)
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
    const client = await granted.user('starter', { '/vms': 'PVETemplateUser' })
    const reply = await client.post(`/nodes/${target.node}/qemu`, { vmid: await target.vmid(), start: 1 })
    expect(reply.status).toBe(403)
    if (isNine) expect(reply.reason).toMatch(/^Permission check failed \(\/vms\/\d+, VM\.PowerMgmt\)$/)
    else expect(reply.reason).toBe('Permission check failed')
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
})
