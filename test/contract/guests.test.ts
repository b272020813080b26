import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Fields } from './client.ts'
import { ownFile, ownPool } from './own.ts'
import { asOwnUser } from './own-user.ts'
import { ended, NO_BLOCK, NO_ROOT, startTarget, type Target } from './target.ts'

/** Clauses 7 and on of pve.md: a VM from its first file to its end. */

const PUBLIC_KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g root@vm'

let target: Target
let nodePath: string
let image: Buffer

beforeAll(async () => {
  target = await startTarget()
  nodePath = `/nodes/${target.node}`
  image = Buffer.alloc(1 << 20, 7)
})
afterAll(() => target?.stop())

async function create(fields: Fields = {}): Promise<number> {
  const vmid = await target.vmid()
  const reply = await target.client.post(`${nodePath}/qemu`, { vmid, memory: 64, ...fields })
  expect(await ended(target, reply)).toMatchObject({ exitstatus: 'OK' })
  return vmid
}

async function config(vmid: number): Promise<Record<string, string | number>> {
  return (await target.client.get(`${nodePath}/qemu/${vmid}/config`)).body.data
}

async function destroy(vmid: number): Promise<string> {
  const reply = await target.client.delete(`${nodePath}/qemu/${vmid}`, {
    purge: 1,
    'destroy-unreferenced-disks': 1,
  })
  return (await ended(target, reply)).exitstatus
}

describe('files', () => {
  const upload = () => `${nodePath}/storage/${target.files}/upload`
  const volume = (id: string) => `${nodePath}/storage/${target.files}/content/${encodeURIComponent(id)}`

  test('7.1 parts in order; the name is made safe; the file can be read back and deleted', async () => {
    const reply = await target.client.upload(upload(), [
      ['content', 'iso'],
      ['filename', { name: ownFile(target.own, 'odd (1).iso'), data: image }],
    ])
    expect(await ended(target, reply)).toMatchObject({ exitstatus: 'OK' })
    const id = `${target.files}:iso/${ownFile(target.own, 'odd__1_.iso')}`
    expect((await target.client.get(volume(id))).body.data).toMatchObject({ size: image.length })
    expect((await target.client.delete(volume(id), { delay: 5 })).body).toEqual({ data: null })
  })

  test('7.2 any other order is a 400 without a body', async () => {
    // Small: Proxmox does not read what follows, and hangs up.
    const reply = await target.client.upload(upload(), [
      ['checksum', 'aa'],
      ['checksum-algorithm', 'sha256'],
      ['content', 'iso'],
      ['filename', { name: ownFile(target.own, 'x.iso'), data: Buffer.alloc(512) }],
    ])
    expect(reply).toMatchObject({ status: 400, reason: 'Bad Request', text: '' })
  })

  test('7.3 names and content types', async () => {
    const wrong = await target.client.upload(upload(), [
      ['content', 'import'],
      ['filename', { name: ownFile(target.own, 'x.img'), data: image }],
    ])
    expect(wrong.body.errors).toEqual({ filename: 'invalid filename or wrong extension' })
    const images = await target.client.upload(upload(), [
      ['content', 'images'],
      ['filename', { name: ownFile(target.own, 'x.raw'), data: image }],
    ])
    expect(images.body.errors).toEqual({
      content: "value 'images' does not have a value in the enumeration 'iso, vztmpl, import'",
    })
    const bogus = await target.client.upload(upload(), [
      ['content', 'bogus'],
      ['filename', { name: ownFile(target.own, 'x.raw'), data: image }],
    ])
    expect(bogus.body.errors).toEqual({ content: "invalid format - invalid content type 'bogus'\n" })
  })

  test('7.4 a wrong checksum, or no qcow2 inside, shows in the task', async () => {
    const checksum = await target.client.upload(upload(), [
      ...([
        ['content', 'iso'],
        ['checksum-algorithm', 'sha256'],
        ['checksum', '0'.repeat(64)],
      ] as [string, string][]),
      ['filename', { name: ownFile(target.own, 'bad.iso'), data: image }],
    ])
    expect((await ended(target, checksum)).exitstatus).toMatch(
      /^checksum mismatch: got '[0-9a-f]{64}' != expect '0+'$/,
    )
    const junk = await target.client.upload(upload(), [
      ['content', 'import'],
      ['filename', { name: ownFile(target.own, 'junk.qcow2'), data: image }],
    ])
    expect((await ended(target, junk)).exitstatus).toMatch(
      /^qemu-img: Could not open '.*': Image is not in qcow2 format$/,
    )
  })

  test('7.5 block storage takes no files and no qcow2', async ({ skip }) => {
    if (target.block === undefined) return skip(NO_BLOCK)
    const reply = await target.client.upload(`${nodePath}/storage/${target.block}/upload`, [
      ['content', 'iso'],
      ['filename', { name: ownFile(target.own, 'x.iso'), data: image }],
    ])
    expect(reply.status).toBe(500)
    expect(reply.reason).toMatch(/^can't upload to storage type '\w+'/)
    const vmid = await target.vmid()
    const disk = await target.client.post(`${nodePath}/qemu`, {
      vmid,
      scsi0: `${target.block}:1,format=qcow2`,
    })
    expect((await ended(target, disk)).exitstatus).toMatch(/unsupported format 'qcow2'/)
  })

  test('7.6 without permission: 403 late and empty', async () => {
    const nobody = await asOwnUser(target, 'files')
    const reply = await nobody.upload(upload(), [
      ['content', 'iso'],
      ['filename', { name: ownFile(target.own, 'p.iso'), data: Buffer.alloc(100) }],
    ])
    expect(reply).toMatchObject({
      status: 403,
      reason: `Permission check failed (/storage/${target.files}, Datastore.AllocateTemplate)`,
      text: '',
    })
    expect(reply.seconds).toBeGreaterThan(2.5)
    await nobody.close()
  })
})

describe('create and config', () => {
  test('8.1 defaults', async () => {
    const vmid = await create()
    const found = await config(vmid)
    expect(found).toMatchObject({ memory: '64', boot: ' ' })
    expect(found.smbios1).toMatch(/^uuid=[0-9a-f-]{36}$/)
    expect(found.digest).toMatch(/^[0-9a-f]{40}$/)
    expect(await destroy(vmid)).toBe('OK')
  })

  test('8.2 what needs I/O fails in the task, and leaves nothing', async () => {
    const vmid = await target.vmid()
    const missing = `${target.files}:import/none.qcow2`
    const reply = await target.client.post(`${nodePath}/qemu`, {
      vmid,
      scsi0: `${target.files}:0,import-from=${missing}`,
    })
    expect((await ended(target, reply)).exitstatus).toMatch(
      new RegExp(`^unable to create VM ${vmid} - failed to stat '.*none.qcow2'$`),
    )
    expect((await target.client.get(`${nodePath}/qemu/${vmid}/config`)).status).toBe(500)
    const iso = await target.client.post(`${nodePath}/qemu`, {
      vmid,
      ide2: `${target.files}:iso/nope.iso,media=cdrom`,
    })
    expect((await ended(target, iso)).exitstatus).toBe(
      `unable to create VM ${vmid} - volume '${target.files}:iso/nope.iso' does not exist`,
    )
  })

  test('8.3 an unknown storage, a taken VMID: at once', async () => {
    const vmid = await create()
    expect(
      (await target.client.post(`${nodePath}/qemu`, { vmid: await target.vmid(), scsi0: 'nostore:4' }))
        .reason,
    ).toBe("storage 'nostore' does not exist")
    expect((await target.client.post(`${nodePath}/qemu`, { vmid })).reason).toBe(
      `unable to create VM ${vmid} - VM ${vmid} already exists on node '${target.node}'`,
    )
    expect((await target.client.get('/cluster/nextid', { vmid })).body.errors).toEqual({
      vmid: `VM ${vmid} already exists`,
    })
    await destroy(vmid)
  })

  test('9.1 the digest is compare-and-swap', async () => {
    const vmid = await create()
    const { digest } = await config(vmid)
    const put = (fields: Fields) => target.client.put(`${nodePath}/qemu/${vmid}/config`, fields)
    expect((await put({ tags: 'one', digest: digest as string })).status).toBe(200)
    const stale = await put({ tags: 'two', digest: digest as string })
    expect(stale).toMatchObject({ status: 500, reason: 'checksum mismatch (file change by other user?)' })
    expect((await config(vmid)).tags).toBe('one')
    await destroy(vmid)
  })

  test('9.2 encodings', async () => {
    const vmid = await create()
    const path = `${nodePath}/qemu/${vmid}/config`
    expect((await target.client.put(path, { sshkeys: 'ssh-ed25519 AAAA x' })).body.errors?.sshkeys).toMatch(
      /invalid urlencoded string/,
    )
    expect(await target.client.put(path, { sshkeys: 'ssh-ed25519%20AAAA%20x' })).toMatchObject({
      status: 500,
      reason: 'SSH public key validation error',
    })
    expect((await target.client.put(path, { sshkeys: encodeURIComponent(PUBLIC_KEY) })).status).toBe(200)
    expect((await target.client.put(path, { onboot: 'true' })).body.errors).toEqual({
      onboot: "type check ('boolean') failed - got 'true'",
    })
    expect((await target.client.json('PUT', path, { onboot: true })).status).toBe(200)
    expect((await target.client.json('PUT', path, { delete: ['onboot', 'sshkeys'] })).status).toBe(200)
    expect(await config(vmid)).not.toHaveProperty('onboot')
    expect((await target.client.put(path, { delete: 'bogus' })).body.errors).toEqual({
      delete: "unknown option 'bogus'",
    })
    expect((await target.client.put(path, {})).reason).toBe('no options specified')
    expect((await target.client.put(path, { net0: 'virtio=03:1B:AA:00:00:02' })).body.errors?.net0).toMatch(
      /unicast MAC address/,
    )
    await destroy(vmid)
  })

  test('9.3 what only the root@pam ticket may', async () => {
    const vmid = await create()
    const put = (fields: Fields) => target.client.put(`${nodePath}/qemu/${vmid}/config`, fields)
    expect((await put({ args: '-no-reboot' })).reason).toBe("only root can set 'args' config")
    expect((await put({ lock: 'backup' })).reason).toBe("only root can set 'lock' config")
    expect((await put({ serial1: '/dev/ttyS0' })).reason).toBe(
      "only root can modify 'serial1' config for real devices",
    )
    expect((await put({ delete: 'lock', skiplock: 1 })).body.errors).toEqual({
      skiplock: 'Only root may use this option.',
    })
    await destroy(vmid)
  })

  test('9.4 a lock keeps everybody out but stop', async ({ skip }) => {
    const { root } = target
    if (root === undefined) return skip(NO_ROOT)
    const vmid = await create()
    const path = `${nodePath}/qemu/${vmid}`
    await root.put(`${path}/config`, { lock: 'backup' })
    expect((await target.client.put(`${path}/config`, { cores: 1 })).reason).toBe('VM is locked (backup)')
    expect((await ended(target, await target.client.post(`${path}/status/start`))).exitstatus).toBe(
      'VM is locked (backup)',
    )
    expect(await destroy(vmid)).toBe('VM is locked (backup)')
    expect((await root.put(`${path}/config`, { delete: 'lock', skiplock: 1 })).status).toBe(200)
    expect(await destroy(vmid)).toBe('OK')
  })

  test('9.5 detaching keeps the disk as unused0', async () => {
    const vmid = await create({ scsi0: `${target.files}:1` })
    await target.client.put(`${nodePath}/qemu/${vmid}/config`, { delete: 'scsi0' })
    const found = await config(vmid)
    expect(found.unused0).toMatch(/vm-\d+-disk-0/)
    expect(found.boot).toBe(' ')
    expect(
      (await target.client.put(`${nodePath}/qemu/${vmid}/unlink`, { idlist: 'unused0', force: 1 })).status,
    ).toBe(200)
    expect(await config(vmid)).not.toHaveProperty('unused0')
    await destroy(vmid)
  })

  test('9.6 protection', async () => {
    const vmid = await create({ protection: 1 })
    const path = `${nodePath}/qemu/${vmid}`
    expect((await target.client.delete(path)).reason).toBe(
      `can't remove VM ${vmid} - protection mode enabled`,
    )
    await target.client.put(`${path}/config`, { protection: 0 })
    expect(await destroy(vmid)).toBe('OK')
  })

  test('10.1 resize', async () => {
    const vmid = await create({ scsi0: `${target.files}:1,format=qcow2` })
    const resize = async (disk: string, size: string) =>
      (await ended(target, await target.client.put(`${nodePath}/qemu/${vmid}/resize`, { disk, size })))
        .exitstatus
    expect(await resize('scsi0', '+512M')).toBe('OK')
    expect((await config(vmid)).scsi0).toMatch(/size=1536M$/)
    expect(await resize('scsi0', '1G')).toBe('shrinking disks is not supported')
    expect(await resize('scsi7', '5G')).toBe("disk 'scsi7' does not exist")
    await destroy(vmid)
  })

  test('10.2 the cloud-init drive is what its options say', async () => {
    const vmid = await create({
      ...{
        name: 'probe',
        ide2: `${target.files}:cloudinit`,
        net0: `virtio=BC:24:11:AA:BB:01,bridge=${target.bridge}`,
      },
      ...{ ipconfig0: 'ip=10.77.0.10/24,gw=10.77.0.1', nameserver: '10.77.0.1', searchdomain: 'test.local' },
      ...{ ciuser: 'builder', sshkeys: encodeURIComponent(PUBLIC_KEY), ciupgrade: 0 },
    })
    const dump = async (type: string) =>
      (await target.client.get(`${nodePath}/qemu/${vmid}/cloudinit/dump`, { type })).body.data as string
    expect(await dump('user')).toContain(
      'hostname: probe\nmanage_etc_hosts: true\nfqdn: probe.test.local\nuser: builder\n',
    )
    expect(await dump('user')).toContain(`ssh_authorized_keys:\n  - ${PUBLIC_KEY}\n`)
    expect(await dump('user')).not.toContain('package_upgrade: true')
    expect(await dump('network')).toBe(
      "version: 1\nconfig:\n    - type: physical\n      name: eth0\n      mac_address: 'bc:24:11:aa:bb:01'\n      subnets:\n      - type: static\n        address: '10.77.0.10'\n        netmask: '255.255.255.0'\n        gateway: '10.77.0.1'\n    - type: nameserver\n      address:\n      - '10.77.0.1'\n      search:\n      - 'test.local'\n",
    )
    expect(await dump('meta')).toMatch(/^instance-id: [0-9a-f]{40}\n$/)
    await destroy(vmid)
  })
})

describe('snapshots, templates, clones', () => {
  test('11.1 snapshot, rollback, delete', async () => {
    const vmid = await create({ scsi0: `${target.files}:1,format=qcow2`, description: 'before' })
    const path = `${nodePath}/qemu/${vmid}`
    const take = async (snapname: string) =>
      (await ended(target, await target.client.post(`${path}/snapshot`, { snapname, description: 'snap' })))
        .exitstatus
    expect(await take('one')).toBe('OK')
    expect(await take('one')).toBe("snapshot name 'one' already used")
    expect((await target.client.post(`${path}/snapshot`, { snapname: '-x' })).body.errors).toEqual({
      snapname: "invalid format - invalid configuration ID '-x'\n",
    })
    await target.client.put(`${path}/config`, { description: 'after' })
    expect((await target.client.post(`${path}/template`)).reason).toBe(
      'unable to create template, because VM contains snapshots',
    )
    expect((await ended(target, await target.client.post(`${path}/snapshot/one/rollback`))).exitstatus).toBe(
      'OK',
    )
    expect(await config(vmid)).toMatchObject({ description: 'after', parent: 'one' })
    expect((await ended(target, await target.client.delete(`${path}/snapshot/nope`))).exitstatus).toBe(
      "snapshot 'nope' does not exist",
    )
    expect((await ended(target, await target.client.delete(`${path}/snapshot/one`))).exitstatus).toBe('OK')
    expect(await destroy(vmid)).toBe('OK')
  })

  test('11.2 raw files have no snapshots', async () => {
    const vmid = await create({ scsi0: `${target.files}:1,format=raw` })
    const reply = await target.client.post(`${nodePath}/qemu/${vmid}/snapshot`, { snapname: 'one' })
    expect((await ended(target, reply)).exitstatus).toBe('snapshot feature is not available')
    await destroy(vmid)
  })

  test('12.1 a template, its linked and its full clone', async () => {
    const vmid = await create({
      name: 'gold',
      tags: 'x;y',
      description: 'note',
      protection: 1,
      scsi0: `${target.files}:1,format=qcow2`,
      net0: `virtio,bridge=${target.bridge}`,
    })
    const path = `${nodePath}/qemu/${vmid}`
    const mac = (await config(vmid)).net0
    expect((await ended(target, await target.client.post(`${path}/template`))).exitstatus).toBe('OK')
    expect((await target.client.post(`${path}/template`)).reason).toBe(
      "you can't convert a template to a template",
    )
    const template = await config(vmid)
    expect(template.template).toBe(1)
    expect(template.scsi0).toMatch(/base-\d+-disk-0\.qcow2,size=1G$/)
    expect((await ended(target, await target.client.post(`${path}/status/start`))).exitstatus).toBe(
      "you can't start a vm if it's a template",
    )

    const linked = await target.vmid()
    expect((await target.client.post(`${path}/clone`, { newid: linked, storage: target.files })).reason).toBe(
      "parameter 'storage' not allowed for linked clones",
    )
    expect(
      (await ended(target, await target.client.post(`${path}/clone`, { newid: linked, name: 'lc' })))
        .exitstatus,
    ).toBe('OK')
    const clone = await config(linked)
    expect(clone).toMatchObject({ name: 'lc', tags: 'x;y', description: 'note', protection: 1 })
    expect(clone.scsi0).toMatch(/base-\d+-disk-0\.qcow2\/\d+\/vm-\d+-disk-0\.qcow2,size=1G$/)
    expect(clone.net0).not.toBe(mac)
    expect(clone).not.toHaveProperty('template')
    const volumes = await target.client.get(
      `${nodePath}/storage/${target.files}/content?content=images&vmid=${linked}`,
    )
    expect(volumes.body.data).toMatchObject([
      {
        volid: String(clone.scsi0).split(',')[0],
        vmid: linked,
        parent: `../${vmid}/base-${vmid}-disk-0.qcow2`,
      },
    ])

    const full = await target.vmid()
    expect(
      (
        await ended(
          target,
          await target.client.post(`${path}/clone`, {
            newid: full,
            full: 1,
            storage: target.files,
            format: 'raw',
          }),
        )
      ).exitstatus,
    ).toBe('OK')
    expect((await config(full)).scsi0).toMatch(/vm-\d+-disk-0\.raw,size=1G$/)

    await target.client.put(`${path}/config`, { protection: 0 })
    const volid = String(template.scsi0).split(',')[0]
    expect(await destroy(vmid)).toBe(`base volume '${volid}' is still in use by linked cloned`)
    expect((await config(vmid)).template).toBe(1)
    for (const clone of [linked, full]) {
      await target.client.put(`${nodePath}/qemu/${clone}/config`, { protection: 0 })
      expect(await destroy(clone)).toBe('OK')
    }
    expect(await destroy(vmid)).toBe('OK')
  })

  test('12.2 only templates have linked clones', async () => {
    const vmid = await create({ scsi0: `${target.files}:1,format=qcow2` })
    const volid = String((await config(vmid)).scsi0).split(',')[0]
    const reply = await target.client.post(`${nodePath}/qemu/${vmid}/clone`, {
      newid: await target.vmid(),
      full: 0,
    })
    expect(reply.reason).toBe(`Linked clone feature is not supported for '${volid}' (scsi0)`)
    await destroy(vmid)
  })

  test('12.3 block storage: template and linked clone', async ({ skip }) => {
    if (target.block === undefined) return skip(NO_BLOCK)
    const vmid = await create({ scsi0: `${target.block}:1` })
    expect(
      (await ended(target, await target.client.post(`${nodePath}/qemu/${vmid}/template`))).exitstatus,
    ).toBe('OK')
    expect((await config(vmid)).scsi0).toBe(`${target.block}:base-${vmid}-disk-0,size=1G`)
    const newid = await target.vmid()
    expect(
      (await ended(target, await target.client.post(`${nodePath}/qemu/${vmid}/clone`, { newid }))).exitstatus,
    ).toBe('OK')
    expect(await destroy(newid)).toBe('OK')
    expect(await destroy(vmid)).toBe('OK')
  })
})

describe('a running guest', () => {
  test('13.1 start, what waits, what does not, stop', async () => {
    const vmid = await create({
      cores: 1,
      serial0: 'socket',
      agent: 1,
      ide2: 'none,media=cdrom',
      scsihw: 'virtio-scsi-pci',
      scsi0: `${target.files}:1,format=qcow2`,
    })
    const path = `${nodePath}/qemu/${vmid}`
    const run = async (action: string, fields: Fields = {}) =>
      (await ended(target, await target.client.post(`${path}/status/${action}`, fields))).exitstatus
    expect(await run('start')).toBe('OK')
    expect(await run('start')).toBe(`VM ${vmid} already running`)
    expect((await target.client.get(`${path}/status/current`)).body.data).toMatchObject({
      status: 'running',
      qmpstatus: 'running',
      agent: 1,
      serial: 1,
    })
    expect((await target.client.post(`${path}/agent/ping`)).reason).toBe('QEMU guest agent is not running')
    expect((await target.client.delete(path)).reason).toBe(`VM ${vmid} is running - destroy failed`)
    expect((await target.client.post(`${path}/template`)).reason).toBe(
      "you can't convert a VM to template if VM is running",
    )

    await target.client.put(`${path}/config`, { delete: 'ide2', cores: 2, tags: 'now' })
    const pending = (await target.client.get(`${path}/pending`)).body.data as {
      key: string
      pending?: number
      delete?: number
    }[]
    expect(pending.find(({ key }) => key === 'ide2')?.delete).toBe(1)
    expect(pending.find(({ key }) => key === 'cores')?.pending).toBe(2)
    expect(pending.find(({ key }) => key === 'tags')).toEqual({ key: 'tags', value: 'now' })
    expect((await target.client.get(`${path}/config`, { current: 1 })).body.data).toMatchObject({ cores: 1 })

    expect(
      (await ended(target, await target.client.put(`${path}/resize`, { disk: 'scsi0', size: '+1G' })))
        .exitstatus,
    ).toBe('OK')
    expect(await run('shutdown', { timeout: 1 })).toBe('VM quit/powerdown failed - got timeout')
    expect(await run('shutdown', { timeout: 1, forceStop: 1 })).toBe('OK')
    expect(await run('stop')).toBe('OK')
    expect(await run('start')).toBe('OK')
    expect(await config(vmid)).not.toHaveProperty('ide2')
    expect((await config(vmid)).cores).toBe(2)
    // Proxmox still cleans up after the guest's last end.
    await expect.poll(() => run('stop'), { timeout: 60_000 }).toBe('OK')
    expect(await destroy(vmid)).toBe('OK')
  })
})

describe('tasks and the cluster', () => {
  test('14.1 unknown tasks', async () => {
    const upid = `UPID:${target.node}:00000001:00000001:6B000000:qmstart:100:root@pam:`
    expect((await target.client.get(`${nodePath}/tasks/bogus/status`)).body.errors).toEqual({
      upid: 'unable to parse worker upid',
    })
    expect(
      (await target.client.get(`${nodePath}/tasks/${encodeURIComponent(upid)}/status`)).body.errors,
    ).toEqual({ upid: 'no such task' })
    const log = await target.client.get(`${nodePath}/tasks/${encodeURIComponent(upid)}/log`)
    expect(log.status).toBe(200)
    expect(log.body.total).toBe(1)
  })

  test('14.2 a task of a token carries its name', async () => {
    const vmid = await create()
    const reply = await target.client.post(`${nodePath}/qemu/${vmid}/status/stop`)
    expect(reply.body.data).toMatch(
      new RegExp(`^UPID:${target.node}:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:qmstop:${vmid}:[^:]+![^:]+:$`),
    )
    await ended(target, reply)
    await destroy(vmid)
  })

  test('14.3 resources lag, but show tags at once', async () => {
    const vmid = await create({ name: 'laggard', tags: 'seen' })
    const row = async () =>
      (
        (await target.client.get('/cluster/resources', { type: 'vm' })).body.data as {
          vmid: number
          name: string
          tags: string
        }[]
      ).find((r) => r.vmid === vmid)
    expect(await row()).toMatchObject({ tags: 'seen' })
    await expect.poll(async () => (await row())?.name, { timeout: 15_000 }).toBe('laggard')
    await destroy(vmid)
    expect(await row()).toBeUndefined()
  })

  test('15.1 pools', async () => {
    const poolid = `${ownPool(target.own)}-members`
    expect((await target.client.post('/pools', { poolid })).body).toEqual({ data: null })
    const vmid = await create({ pool: poolid })
    const pool = (await target.client.get('/pools', { poolid })).body.data as {
      members: { vmid: number }[]
    }[]
    expect(pool[0]?.members.map((member) => member.vmid)).toEqual([vmid])
    await destroy(vmid)
    expect((await target.client.delete('/pools', { poolid })).body).toEqual({ data: null })
  })
})
