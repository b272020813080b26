import { describe, expect, test } from 'vitest'
import { prune } from '../../src/build/prune.ts'
import { applyRetention, beyondKept } from '../../src/build/retention.ts'
import type { Event } from '../../src/core/events.ts'
import { fromTags, toTags } from '../../src/pve/marks.ts'
import { promote } from '../../src/pve/promotion.ts'
import { nodeTemplates } from '../../src/pve/templates.ts'
import { MemoryProxmox, PLACE, past, refused, soon } from '../pve/memory-proxmox.ts'
import { putTemplate } from '../pve/our-guest.ts'
import { aClaim } from './world.ts'

/** A container template, of which an archive is kept. */
const archived = (file: string) =>
  ({ kind: 'lxc', note: { archive: { file, volid: `local:vztmpl/${file}` } } }) as const

/** Five versions; 9004 is current. */
function five(pve: MemoryProxmox) {
  for (let n = 1; n <= 4; n += 1)
    putTemplate(pve, 9000 + n, n === 4 ? 'current' : n === 3 ? 'previous' : 'retired', `2026010${n}.1`, {
      turn: n,
    })
  putTemplate(pve, 9000, 'retired', '20251231.1', { turn: 0 })
}

const OF = { namespace: 'homelab', image: 'web' }
const { signal } = new AbortController()

async function retain(pve: MemoryProxmox, keep: number): Promise<string[]> {
  const events: Event[] = []
  const by = { pve: pve.client(), place: PLACE, signal, emit: (event: Event) => void events.push(event) }
  await applyRetention(by, aClaim(), { ...OF, keep })
  return events.map((event) => ('message' in event ? event.message : JSON.stringify(event)))
}

function pruning(pve: MemoryProxmox, change: { dryRun?: boolean; kept?: boolean; keep?: number } = {}) {
  const { keep = 1, ...rest } = change
  const options = { dryRun: false, kept: false, tool: '0', emit: () => {}, signal, ...rest }
  const request = { pve: pve.client(), place: PLACE, namespace: 'homelab', ...options }
  return prune({ ...request, keep: (image) => (image === 'web' ? keep : undefined) }).then((list) =>
    list.map(({ kind, id, spared }) => `${kind} ${id}${spared === undefined ? '' : `: ${spared}`}`),
  )
}

const vmids = (pve: MemoryProxmox) => [...pve.guests.keys()].sort((a, b) => a - b)

describe('beyond what is kept', () => {
  test.each([
    [1, [9000, 9001, 9002, 9003]],
    [3, [9000, 9001]],
    [5, []],
    [99, []],
  ])('with keep: %i', async (keep, expected) => {
    const pve = new MemoryProxmox()
    five(pve)
    const templates = await nodeTemplates(pve.client(), 'pve', 'homelab')
    expect(beyondKept(templates, 'web', keep).map(({ vmid }) => vmid)).toEqual(expected)
  })

  test('after a rollback are neither the held one nor the one that it was rolled back from', async () => {
    const pve = new MemoryProxmox()
    five(pve)
    const all = await nodeTemplates(pve.client(), 'pve', 'homelab')
    const oldest = all.find(({ vmid }) => vmid === 9000)
    if (oldest) await promote(pve.client(), oldest, { held: true })
    const templates = await nodeTemplates(pve.client(), 'pve', 'homelab')
    expect(beyondKept(templates, 'web', 2).map(({ vmid }) => vmid)).toEqual([9001, 9002, 9003])
  })

  test('is nothing where nothing is current, nor are candidates and stand-ins', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'retired', '20260101.1')
    putTemplate(pve, 9001, 'retired', '20260102.1')
    expect(beyondKept(await nodeTemplates(pve.client(), 'pve', 'homelab'), 'web', 1)).toEqual([])
    putTemplate(pve, 9002, 'current', '20260103.1', { standin: true })
    putTemplate(pve, 9003, 'current', '20260103.1')
    putTemplate(pve, 9004, 'candidate', '20260104.1')
    const old = beyondKept(await nodeTemplates(pve.client(), 'pve', 'homelab'), 'web', 2)
    expect(old.map(({ vmid }) => vmid)).toEqual([9000])
  })
})

describe('old versions', () => {
  test('go after a promotion, each said', async () => {
    const pve = new MemoryProxmox()
    five(pve)
    expect(await retain(pve, 3)).toEqual([
      'removed VM 9000, version 20251231.1: older than the 3 versions that are kept',
      'removed VM 9001, version 20260101.1: older than the 3 versions that are kept',
    ])
    expect(vmids(pve)).toEqual([9002, 9003, 9004])
  })

  test('stay where they are protected or have linked clones, which are named', async () => {
    const pve = new MemoryProxmox()
    five(pve)
    putTemplate(pve, 9001, 'retired', '20260101.1', { turn: 1, config: { protection: 1 } })
    pve.put(130, { name: 'shop', scsi0: 'local:9002/base-9002-disk-0.qcow2/130/vm-130-disk-0.qcow2' })
    pve.put(131, { name: 'full', scsi0: 'local:131/vm-131-disk-0.qcow2' })
    expect(await retain(pve, 2)).toEqual([
      'removed VM 9000, version 20251231.1: older than the 2 versions that are kept',
      'VM 9001, version 20260101.1 stays, though older than the 2 versions that are kept: it is protected',
      'VM 9002, version 20260102.1 stays, though older than the 2 versions that are kept: it has linked clones: VM 130 (shop)',
    ])
    expect(vmids(pve)).toEqual([130, 131, 9001, 9002, 9003, 9004])
  })

  test('stay, and can be promoted, where Proxmox refuses for linked clones that nobody may see', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'previous', '20260101.1', { turn: 1 })
    putTemplate(pve, 9001, 'current', '20260102.1', { turn: 2 })
    pve.put(130, { scsi0: 'local:9000/base-9000-disk-0.qcow2/130/vm-130-disk-0.qcow2' })
    pve.before = (call) => {
      if (call === 'GET /nodes/pve/storage/local/content')
        throw refused('GET', call, 'Permission check failed', 403)
    }
    expect(await retain(pve, 1)).toEqual([
      expect.stringMatching(/^VM 9000, .* it has linked clones, which these credentials may not see$/),
    ])
    expect(fromTags(9000, pve.tagsOf(9000).join(';'))).toMatchObject({ state: 'previous', turn: 1 })
    expect(pve.tagsOf(9000).some((tag) => tag.startsWith('ib-expires'))).toBe(false)
  })

  test('promoted at this very moment stay', async () => {
    const pve = new MemoryProxmox()
    five(pve)
    const all = await nodeTemplates(pve.client(), 'pve', 'homelab')
    pve.before = async (call) => {
      const oldest = all.find(({ vmid }) => vmid === 9000)
      if (call !== 'PUT /nodes/pve/qemu/9000/config' || oldest === undefined) return
      pve.before = () => {}
      await promote(pve.client(), oldest)
    }
    expect((await retain(pve, 4))[0]).toMatch(/it has just been promoted$/)
    expect(pve.tagsOf(9000)).toContain('ib-current')
  })

  test('stay where somebody has just begun to bring them to a fixed VMID', async () => {
    const pve = new MemoryProxmox()
    five(pve)
    pve.before = (call) => {
      if (call !== 'PUT /nodes/pve/qemu/9000/config') return
      pve.before = () => {}
      putTemplate(pve, 9000, 'retired', '20251231.1', { turn: 0, swap: 8000 })
    }
    await retain(pve, 4)
    expect(vmids(pve)).toContain(9000)
    expect(pve.tagsOf(9000).filter((tag) => tag.startsWith('ib-expires'))).toEqual([])
  })

  test('whose removal was cut off are removed by the next prune, and resolved by nobody', async () => {
    const pve = new MemoryProxmox()
    five(pve)
    pve.before = (call) => {
      if (call.startsWith('DELETE')) throw new Error('killed')
    }
    const by = { pve: pve.client(), place: PLACE, signal, emit: () => {} }
    await applyRetention(by, aClaim(), { ...OF, keep: 4 })
    pve.before = () => {}
    expect(await pruning(pve, { keep: 4 })).toEqual(['version VM 9000'])
    expect(vmids(pve)).toEqual([9001, 9002, 9003, 9004])
  })

  test('of a container go with their archives, unless another template has the same', async () => {
    const pve = new MemoryProxmox()
    const volumes = ['web-1.tar.zst', 'web-2.tar.zst', 'web-3.tar.zst'].map((file) => `local:vztmpl/${file}`)
    for (const volid of volumes) pve.files.push({ volid, size: 1, ctime: 0, content: 'vztmpl' })
    putTemplate(pve, 9001, 'retired', '1.1', { turn: 1, ...archived('web-1.tar.zst') })
    putTemplate(pve, 9002, 'previous', '2.1', { turn: 2, ...archived('web-2.tar.zst') })
    putTemplate(pve, 9003, 'current', '3.1', { turn: 3, ...archived('web-3.tar.zst') })
    putTemplate(pve, 9010, 'current', '1.1', {
      image: 'web',
      namespace: 'other',
      ...archived('web-2.tar.zst'),
    })
    await retain(pve, 1)
    expect(vmids(pve)).toEqual([9003, 9010])
    expect(pve.files.map(({ volid }) => volid)).toEqual([volumes[1], volumes[2]])
  })
})

describe('prune', () => {
  /** A user's clone, a clone that the user made a template, and a template whose marks alone are ours. */
  function theirs(pve: MemoryProxmox) {
    const { template: _, ...inherited } = pve.guests.get(9001)?.config ?? {}
    pve.put(500, { ...inherited, name: 'shop' }, { status: 'running' })
    pve.put(501, { ...inherited, name: 'their-template', template: 1 })
    const tags = toTags({ vmid: 502, namespace: 'homelab', image: 'web', state: 'retired', version: '1.1' })
    pve.put(502, { name: 'mistyped', template: 1, tags })
    putTemplate(pve, 9020, 'retired', '20250101.1', { image: 'unknown' })
    putTemplate(pve, 9021, 'current', '20250102.1', { image: 'unknown' })
  }

  test('removes versions beyond those kept, of images that are defined here; what is others’ stays', async () => {
    const pve = new MemoryProxmox()
    five(pve)
    theirs(pve)
    const would = await pruning(pve, { keep: 2, dryRun: true })
    expect(would).toEqual([
      'version VM 502: its note is not imagebuild’s for this VMID',
      'version VM 9000',
      'version VM 9001',
      'version VM 9002',
    ])
    expect(pve.writes).toEqual([])
    expect(await pruning(pve, { keep: 2 })).toEqual(would)
    expect(vmids(pve)).toEqual([500, 501, 502, 9003, 9004, 9020, 9021])
    expect((await nodeTemplates(pve.client(), 'pve', 'homelab')).map(({ vmid }) => vmid)).not.toContain(501)
  })

  test('finishes a promotion that was cut off', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9001, 'previous', '20260101.1', { turn: 1 })
    putTemplate(pve, 9002, 'current', '20260102.1', { turn: 2 })
    putTemplate(pve, 9003, 'current', '20260103.1', { turn: 3 })
    expect(await pruning(pve, { keep: 3, dryRun: true })).toEqual(['promotion VM 9001', 'promotion VM 9002'])
    expect(pve.writes).toEqual([])
    await pruning(pve, { keep: 3 })
    expect(await pruning(pve, { keep: 3 })).toEqual([])
    const states = [9001, 9002, 9003].map((vmid) => fromTags(vmid, pve.tagsOf(vmid).join(';'))?.state)
    expect(states).toEqual(['retired', 'previous', 'current'])
  })

  test('removes a candidate that failed when its day is over, or when told', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9001, 'candidate', '20260101.1')
    putTemplate(pve, 9002, 'candidate', '20260101.2', { expires: soon() })
    putTemplate(pve, 9003, 'candidate', '20260101.3', { expires: past() })
    expect(await pruning(pve)).toEqual(['candidate VM 9003'])
    expect(await pruning(pve, { kept: true })).toEqual(['candidate VM 9002'])
    expect(vmids(pve)).toEqual([9001])
  })

  test('leaves a candidate that is promoted while it gets there, and one it has begun with is promoted by nobody', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9003, 'candidate', '20260101.3', { expires: past() })
    const [candidate] = await nodeTemplates(pve.client(), 'pve', 'homelab')
    if (candidate === undefined) throw new Error('it is not there')
    const promoteIt = () => promote(pve.client(), candidate)
    const once = (when: string, work: () => Promise<unknown>) => {
      pve.before = async (call) => {
        if (!call.startsWith(when)) return
        pve.before = () => {}
        await work()
      }
    }
    once('PUT', promoteIt)
    expect(await pruning(pve)).toEqual(['candidate VM 9003: it has just been promoted'])
    expect(pve.tagsOf(9003)).toContain('ib-current')

    putTemplate(pve, 9003, 'candidate', '20260101.3', { expires: past() })
    once('DELETE', () => expect(promoteIt()).rejects.toMatchObject({ code: 'not_found' }))
    expect(await pruning(pve)).toEqual(['candidate VM 9003'])
    expect(vmids(pve)).toEqual([])
  })
})
