import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Client, Fields, Reply } from './client.ts'
import { guestCalls, tinyContainer } from './guest-calls.ts'
import type { TagRules } from './held.ts'
import { ownPool, ownUser } from './own.ts'
import { asOwnUser } from './own-user.ts'
import { setTagRules } from './tag-rules.ts'
import { ended, NO_TAG_RULES, RELEASES, startTarget, type Target } from './target.ts'

/** Clause 8.9 of pve.md: tags that are not everybody's to set. */

describe.each(RELEASES)('$name', ({ pve }) => {
  let target: Target
  /** may do all with guests, and nothing with the node */
  let user: Client
  let machines: ReturnType<typeof guestCalls>
  let containers: ReturnType<typeof guestCalls>
  let tiny: Fields
  let isNine: boolean

  beforeAll(async () => {
    target = await startTarget(pve && { pve })
    isNine = target.version >= 9
    if (!target.own.tagRules) return
    user = await asOwnUser(target, 'tagger', 0)
    await grant('/vms', 'PVEVMAdmin')
    await grant(`/storage/${target.files}`, 'PVEDatastoreUser')
    machines = guestCalls(target, 'qemu', user)
    containers = guestCalls(target, 'lxc', user)
    tiny = { ...(await tinyContainer(target)), unprivileged: 1 }
  })
  afterAll(async () => {
    await user?.close()
    await target?.stop()
  })

  async function grant(path: string, roles: string): Promise<void> {
    const granted = await target.client.put('/access/acl', { path, roles, users: ownUser(target.own) })
    expect(granted.status).toBe(200)
  }

  async function rules(wanted: TagRules): Promise<void> {
    expect((await setTagRules(target, wanted)).body).toEqual({ data: null })
  }

  const refusal = (tag: string) => `Permission check failed (/, Sys.Modify for modifying tag '${tag}')`
  const create = async (tags: string) => {
    const vmid = await target.vmid()
    const { exitstatus } = await ended(target, await machines.post({ vmid, memory: 16, tags }))
    return { vmid, exitstatus: exitstatus.replace(`unable to create VM ${vmid} - `, '') }
  }
  const refused = (reply: Reply, tag: string) =>
    expect(reply).toMatchObject({ status: 403, reason: refusal(tag) })

  test('8.9 free ones are everybody’s, but for registered ones', async ({ skip }) => {
    if (!target.own.tagRules) return skip(NO_TAG_RULES)
    await rules({ 'registered-tags': 'suite-mine' })
    const free = await create('suite-any')
    expect(free.exitstatus).toBe('OK')
    const registered = await create('suite-any;suite-mine')
    expect(registered.exitstatus).toBe(isNine ? `403 ${refusal('suite-mine')}` : 'OK')
    refused(await machines.put(free.vmid, { tags: 'suite-any;suite-mine' }), 'suite-mine')
    expect((await machines.put(free.vmid, { tags: 'suite-other' })).status).toBe(200)
    expect(
      (await target.client.put(machines.path(free.vmid, '/config'), { tags: 'suite-mine' })).status,
    ).toBe(200)
    // To take one off is to change it too.
    refused(await machines.put(free.vmid, { delete: 'tags' }), 'suite-mine')
    expect((await machines.config(free.vmid)).tags).toBe('suite-mine')
    const later = await user.post(machines.path(free.vmid, '/config'), { tags: 'a' })
    expect((await ended(target, later)).exitstatus).toBe(`403 ${refusal('suite-mine')}`)
  })

  test('8.9 those of a list; of a new VM 9.2 refuses even them', async ({ skip }) => {
    if (!target.own.tagRules) return skip(NO_TAG_RULES)
    await rules({ 'user-tag-access': 'user-allow=list,user-allow-list=suite-yes;suite-also' })
    const listed = await create('suite-yes')
    if (isNine) expect(listed.exitstatus).toMatch(/^403 .* for modifying tag 'HASH\(0x[0-9a-f]+\)'\)$/)
    else expect(listed.exitstatus).toBe('OK')
    if (isNine) expect((await target.client.get(machines.path(listed.vmid, '/config'))).status).toBe(500)
    const { vmid } = isNine ? { vmid: await machines.create({ memory: 16 }) } : listed
    expect((await machines.put(vmid, { tags: 'suite-also' })).status).toBe(200)
    refused(await machines.put(vmid, { tags: 'suite-also;suite-no' }), 'suite-no')
    const container = (tags: string) =>
      target.vmid().then((id) => containers.post({ ...tiny, vmid: id, tags }))
    refused(await container('suite-no'), 'suite-no')
    const made = await container('suite-yes')
    expect((await ended(target, made)).exitstatus).toBe('OK')
    const id = Number((made.body.data as string).split(':')[6])
    refused(await containers.put(id, { tags: 'suite-no;suite-yes' }), 'suite-no')
  })

  test('8.9 those of guests that the user sees, but of a new VM on 9.2; clones keep what their source has', async ({
    skip,
  }) => {
    if (!target.own.tagRules) return skip(NO_TAG_RULES)
    await rules({ 'user-tag-access': 'user-allow=existing' })
    const vmid = await guestCalls(target, 'qemu').create({ memory: 16, tags: 'suite-there' })
    const other = await machines.create({ memory: 16 })
    expect((await machines.put(other, { tags: 'suite-there' })).status).toBe(200)
    refused(await machines.put(other, { tags: 'suite-new' }), 'suite-new')
    // Of a new VM 9.2 refuses even them.
    const made = await create('suite-there')
    expect(made.exitstatus).toMatch(isNine ? /^403 .* for modifying tag 'HASH\(0x[0-9a-f]+\)'\)$/ : /^OK$/)

    const hidden = await guestCalls(target, 'qemu').create({ memory: 16, tags: 'suite-hidden' })
    expect((await machines.put(other, { tags: 'suite-hidden' })).status).toBe(200)
    expect((await machines.put(other, { tags: 'suite-there' })).status).toBe(200)
    await grant(`/vms/${hidden}`, 'NoAccess')
    refused(await machines.put(other, { tags: 'suite-hidden' }), 'suite-hidden')

    await rules({ 'user-tag-access': 'user-allow=none,user-allow-list=suite-there' })
    refused(await machines.put(other, { delete: 'tags' }), 'suite-there')
    const container = await guestCalls(target, 'lxc').create({ ...tiny, tags: 'suite-there' })
    for (const [guests, source] of [
      [machines, vmid],
      [containers, container],
    ] as const) {
      const newid = await target.vmid()
      const cloning = await user.post(guests.path(source, '/clone'), { newid })
      expect((await ended(target, cloning)).exitstatus).toBe('OK')
      expect((await guests.config(newid)).tags).toBe('suite-there')
    }
  })

  test('8.9 with Sys.Modify on / all are allowed; without Sys.Audit the rules are not told', async ({
    skip,
  }) => {
    if (!target.own.tagRules) return skip(NO_TAG_RULES)
    const access = { 'user-allow': 'list', 'user-allow-list': ['suite-yes'] }
    await rules({
      ...{ 'user-tag-access': 'user-allow=list,user-allow-list=suite-yes', 'registered-tags': 'suite-mine' },
    })
    const vmid = await guestCalls(target, 'qemu').create({ memory: 16, tags: 'suite-mine;suite-no' })
    expect((await target.client.put(machines.path(vmid, '/config'), { tags: 'suite-new' })).status).toBe(200)
    expect((await target.client.get('/cluster/options')).body.data).toMatchObject({
      ...{ 'user-tag-access': access, 'registered-tags': ['suite-mine'] },
      'allowed-tags': expect.arrayContaining(['suite-mine', 'suite-new', 'suite-yes']),
    })
    const told = (await user.get('/cluster/options')).body.data as Record<string, unknown>
    expect(told['allowed-tags']).toEqual(['suite-yes'])
    expect(Object.keys(told).filter((name) => !/^(?:allowed-tags|tag-style|console)$/.test(name))).toEqual([])
  })

  test('8.9 privileges on a pool alone are not enough for tags', async ({ skip }) => {
    if (!target.own.tagRules) return skip(NO_TAG_RULES)
    await rules({})
    const pool = `${ownPool(target.own)}-tags`
    expect((await target.client.post('/pools', { poolid: pool })).status).toBe(200)
    await target.client.put('/access/acl', {
      ...{ path: '/vms', roles: 'PVEVMAdmin', users: ownUser(target.own), delete: 1 },
    })
    await grant(`/pool/${pool}`, 'PVEVMAdmin')
    const vmid = await target.vmid()
    const needed = (id: number) => `Permission check failed (/vms/${id}, VM.Config.Options)`
    const machine = await ended(target, await machines.post({ vmid, memory: 16, pool, tags: 'suite-any' }))
    expect(machine.exitstatus).toBe(isNine ? `unable to create VM ${vmid} - 403 ${needed(vmid)}` : 'OK')
    const container = await target.vmid()
    const reply = await containers.post({ ...tiny, vmid: container, pool, tags: 'suite-any' })
    expect(reply).toMatchObject({ status: 403, reason: needed(container) })
  })
})
