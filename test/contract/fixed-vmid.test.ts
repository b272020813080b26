import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { SwapBy } from '../../src/build/fixed-vmid.ts'
import { requireFixedVmid } from '../../src/build/fixed-vmid.ts'
import { prune } from '../../src/build/prune.ts'
import { swap } from '../../src/build/swap.ts'
import { connect, type Pve } from '../../src/pve/client.ts'
import { readConfig } from '../../src/pve/guest-ref.ts'
import { type Marks, parseNote, renderNote, type State, toTags } from '../../src/pve/marks.ts'
import type { Place } from '../../src/pve/place.ts'
import { nodeTemplates, select, type Template } from '../../src/pve/templates.ts'
import { ownPool } from './own.ts'
import { ended, NO_BLOCK, NO_OTHER, startTarget, type Target } from './target.ts'

/** Clause 12.4, and the swap of a fixed VMID that relies on it: over the wire, with machines that are never started. */

const signal = AbortSignal.timeout(600_000)
let target: Target
let pve: Pve

beforeAll(async () => {
  target = await startTarget()
  const { base, fingerprint, credentials } = target.client
  const auth = { kind: 'token', token: credentials.token ?? '' } as const
  pve = await connect({ endpoint: base, auth, tls: { fingerprint }, signal })
})
afterAll(async () => {
  await pve?.[Symbol.asyncDispose]()
  await target?.stop()
})

/** Five VMIDs for templates, two for claims, and one that is fixed. */
async function someVmids(): Promise<{ fixed: number; place: (node: string, disks?: string) => Place }> {
  const first = await target.vmid()
  const vmids = [first, ...(await Promise.all(Array.from({ length: 8 }, () => target.vmid())))]
  const last = Math.max(...vmids)
  const fixed = last - 2
  const place = (node: string, disks = target.files): Place => ({
    ...{ target: 'here', node, bridge: target.bridge, pool: ownPool(target.own), macPrefix: '02:1b' },
    ...{ dns: [], ssh: { authorities: [] } },
    storages: { disks, images: target.files, archives: target.files },
    vmids: { templates: { first, last: fixed - 1 }, claims: { first: last - 1, last }, fixed: [fixed] },
  })
  return { fixed, place }
}

const by = (place: Place): SwapBy => ({
  pve,
  place,
  namespace: target.own.namespace,
  image: 'web',
  emit: () => {},
  signal,
})

/** A template with a disk of its own and a cloud-init drive, as a build leaves it. */
async function template(
  place: Place,
  vmid: number,
  state: State,
  version: string,
  more: Partial<Marks> = {},
): Promise<Template> {
  const { node, storages } = place
  const { namespace } = target.own
  const marks: Marks = { vmid, namespace, image: 'web', state, version, ...more }
  const note = {
    schema: 1,
    vmid,
    namespace,
    image: 'web',
    kind: 'vm',
    tool: '0',
    run: 'r',
    version,
  } as const
  const name = `web-${version}`
  const create = await target.client.post(`/nodes/${node}/qemu`, {
    ...{ vmid, name, memory: 16, net0: `virtio,bridge=${target.bridge}`, ciuser: 'admin' },
    ...{ scsi0: `${storages.disks}:1`, ide2: `${storages.disks}:cloudinit` },
    ...{ tags: toTags(marks), description: renderNote(note, 'Über') },
  })
  expect((await ended(target, create)).exitstatus).toBe('OK')
  const convert = await target.client.post(`/nodes/${node}/qemu/${vmid}/template`)
  expect((await ended(target, convert)).exitstatus).toBe('OK')
  return { kind: 'vm', node, vmid, name, marks }
}

async function remove(place: Place): Promise<void> {
  for (const { vmid } of await nodeTemplates(pve, place.node, target.own.namespace))
    await ended(target, await target.client.delete(`/nodes/${place.node}/qemu/${vmid}`))
}

const ref = (node: string, vmid: number) => ({ kind: 'vm', node, vmid }) as const

test('12.4 a VMID is free when its guest’s removal has ended; a clone may have it, and its source’s MAC', async () => {
  const { fixed, place } = await someVmids()
  const here = place(target.node)
  const path = `/nodes/${here.node}/qemu`
  const source = await template(here, here.vmids.templates.first, 'candidate', '20260101.1')
  await template(here, fixed, 'current', '20250101.1')
  const { net0 = '' } = (await readConfig(pve, source)) as { net0?: string }
  expect((await ended(target, await target.client.delete(`${path}/${fixed}`))).exitstatus).toBe('OK')
  expect((await target.client.get('/cluster/nextid', { vmid: fixed })).status).toBe(200)
  const clone = await target.client.post(`${path}/${source.vmid}/clone`, {
    newid: fixed,
    full: 1,
    storage: target.files,
  })
  expect((await ended(target, clone)).exitstatus).toBe('OK')
  const put = await target.client.put(`${path}/${fixed}/config`, { net0 })
  expect(put.status).toBe(200)
  const cloned = await readConfig(pve, ref(here.node, fixed))
  expect(cloned).toMatchObject({
    net0,
    ciuser: 'admin',
    ide2: expect.stringContaining(`vm-${fixed}-cloudinit`),
  })
  // A full clone stands on nobody's disks.
  expect((await ended(target, await target.client.delete(`${path}/${source.vmid}`))).exitstatus).toBe('OK')
  expect((await ended(target, await target.client.delete(`${path}/${fixed}`))).exitstatus).toBe('OK')
})

describe('a template at a fixed VMID', () => {
  test.for(['files', 'block'] as const)('is replaced by the next one (%s)', async (storage, { skip }) => {
    const disks = target[storage]
    if (disks === undefined) return skip(NO_BLOCK)
    const { fixed, place } = await someVmids()
    const here = place(target.node, disks)
    await template(here, fixed, 'current', '20260101.1', { turn: 1 })
    const next = await template(here, here.vmids.templates.first, 'candidate', '20260101.2', {
      verified: 'inside',
    })
    const before = await readConfig(pve, next)
    const { template: now, seconds } = await swap(by(here), next, fixed, { tool: '0', since: 1 })
    expect(now).toMatchObject({ vmid: fixed, marks: { version: '20260101.2', turn: 2, verified: 'inside' } })
    expect(seconds).toBeGreaterThan(0)
    const config = await readConfig(pve, ref(here.node, fixed))
    expect(config).toMatchObject({ template: 1, name: next.name, net0: before.net0, ciuser: 'admin' })
    expect(config.ide2).toContain('cloudinit')
    expect(config.scsi0).toMatch(new RegExp(`base-${fixed}-disk-0`))
    expect(config.description?.startsWith('Über\n\n')).toBe(true)
    const there = await nodeTemplates(pve, here.node, target.own.namespace)
    const previous = select(there, 'web', 'previous')
    expect(there).toHaveLength(2)
    expect(previous?.marks).toMatchObject({ version: '20260101.1', turn: 1, state: 'previous' })
    expect(parseNote(fixed, config.description)?.previous).toBe(previous?.vmid)
    const content = await target.client.get(`/nodes/${here.node}/storage/${disks}/content`)
    const left = (content.body.data as { vmid?: number }[]).filter(({ vmid }) => vmid === next.vmid)
    expect(left).toEqual([])
    expect(await prune({ ...by(here), keep: () => 3, dryRun: true, kept: false, tool: '0' })).toEqual([])
    await remove(here)
  })

  test('stays where others stand on it, which are named; then all is as before', async () => {
    const { fixed, place } = await someVmids()
    const here = place(target.node)
    await template(here, fixed, 'current', '20260101.1', { turn: 1 })
    const next = await template(here, here.vmids.templates.first, 'candidate', '20260101.2', {
      verified: 'inside',
    })
    const newid = await target.vmid()
    const clone = await target.client.post(`/nodes/${here.node}/qemu/${fixed}/clone`, { newid, name: 'shop' })
    expect((await ended(target, clone)).exitstatus).toBe('OK')
    for (const asked of [
      requireFixedVmid(by(here), fixed),
      swap(by(here), next, fixed, { tool: '0', since: 1 }),
    ])
      await expect(asked).rejects.toThrow(new RegExp(`linked clones.*VM ${newid}`))
    const there = await nodeTemplates(pve, here.node, target.own.namespace)
    expect(there.map(({ vmid }) => vmid).sort()).toEqual([next.vmid, fixed].sort())
    expect(there.find(({ vmid }) => vmid === next.vmid)?.marks).toEqual(next.marks)
    await ended(target, await target.client.delete(`/nodes/${here.node}/qemu/${newid}`))
    await remove(here)
  })

  test('has one VMID on each of two nodes', async ({ skip }) => {
    const { node, other } = target
    if (other === undefined) return skip(NO_OTHER)
    const [a, b] = [await someVmids(), await someVmids()]
    for (const [at, one] of [
      [node, a],
      [other, b],
    ] as const) {
      const here = one.place(at)
      const next = await template(here, here.vmids.templates.first, 'candidate', '20260101.1', {
        verified: 'inside',
      })
      const { template: now, seconds } = await swap(by(here), next, one.fixed, { tool: '0', since: 1 })
      expect([now.node, now.vmid, seconds]).toEqual([at, one.fixed, undefined])
    }
    for (const [at, one] of [
      [node, b],
      [other, a],
    ] as const)
      await expect(requireFixedVmid(by(one.place(at)), one.fixed)).rejects.toThrow(/is taken/)
    await remove(a.place(node))
    await remove(b.place(other))
  })
})
