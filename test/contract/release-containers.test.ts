import { zstdDecompressSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Client, Fields } from './client.ts'
import { guestCalls, tinyContainer } from './guest-calls.ts'
import { ownFile } from './own.ts'
import { ownGrants } from './own-user.ts'
import { systemdArchive } from './systemd-archive.ts'
import { type Ended, ended, RELEASES, startTarget, type Target } from './target.ts'
import { tinyArchive } from './tiny-archive.ts'

/** Clauses of pve.md about containers that say another thing for each release. */

describe.each(RELEASES)('$name', ({ pve }) => {
  let target: Target
  let containers: ReturnType<typeof guestCalls>
  let isNine: boolean

  beforeAll(async () => {
    target = await startTarget(pve && { pve })
    containers = guestCalls(target, 'lxc')
    isNine = target.version >= 9
  })
  afterAll(() => target?.stop())

  const granted = ownGrants(() => target)
  afterEach(() => granted.takeBack())

  test('7.3 a plain .tar is an archive for containers', async () => {
    const name = ownFile(target.own, 'plain.tar')
    const reply = await target.client.upload(`/nodes/${target.node}/storage/${target.files}/upload`, [
      ['content', 'vztmpl'],
      ['filename', { name, data: zstdDecompressSync(await tinyArchive()) }],
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
    const tiny = await tinyContainer(target)
    const vmid = await containers.create({ ...tiny, ostemplate: `${target.files}:vztmpl/${name}` })
    expect(await containers.destroy(vmid)).toBe('OK')
  })

  test('12.5 the log of a clone says what it makes', async () => {
    const vmid = await containers.create({ ...(await tinyContainer(target)), unprivileged: 1 })
    const newid = await target.vmid()
    const cloning = await target.client.post(containers.path(vmid, '/clone'), { newid, full: 1 })
    const task = await ended(target, cloning)
    expect(task.exitstatus).toBe('OK')
    const said = `creating a clone of container ${vmid} with ID ${newid}`
    expect(task.log[0] === said).toBe(isNine)
    for (const made of [newid, vmid]) expect(await containers.destroy(made)).toBe('OK')
  })

  /** @returns the backup's volid, and how the task has ended */
  async function backUp(vmid: number): Promise<Ended & { archive: string }> {
    const dump = { vmid, storage: target.files, mode: 'stop', compress: 'zstd' }
    const task = await ended(target, await target.client.post(`/nodes/${target.node}/vzdump`, dump))
    const path = `/nodes/${target.node}/storage/${target.files}/content`
    const rows = (await target.client.get(path, { content: 'backup', vmid })).body.data as { volid: string }[]
    return { ...task, archive: rows[0]?.volid as string }
  }

  test('19.8 who asks for nothing gets an unprivileged container, or a privileged one', async () => {
    const tiny = await tinyContainer(target)
    const vmid = await containers.create(tiny)
    expect((await containers.config(vmid)).unprivileged).toBe(isNine ? 1 : undefined)
    expect(await containers.destroy(vmid)).toBe('OK')
    const powerless = await granted.user('powerless')
    const privileged = { ...tiny, vmid: await target.vmid(), unprivileged: 0 }
    const reply = await powerless.post(`/nodes/${target.node}/lxc`, privileged)
    expect(reply).toMatchObject({
      status: 403,
      reason: `Permission check failed${isNine ? ' (/, Sys.Modify)' : ''}`,
    })
  })

  test('19.8 nor is one restored as privileged by who may not make it', async () => {
    const tiny = await tinyContainer(target)
    const keeper = await granted.user('keeper', {
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
