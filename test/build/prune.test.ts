import { describe, expect, test } from 'vitest'
import { prune } from '../../src/build/prune.ts'
import type { Event } from '../../src/core/events.ts'
import { thisOwner } from '../../src/pve/owner.ts'
import { seedName } from '../../src/pve/seeds.ts'
import { MemoryProxmox, PLACE, past, refused } from '../pve/memory-proxmox.ts'
import { putOurs } from '../pve/our-guest.ts'

const DIGEST = `sha256:${'ab'.repeat(32)}`

const seed = (pve: MemoryProxmox, run: string, image = 'web', namespace = 'homelab') =>
  pve.addIso(seedName({ namespace, image, run, expires: past() }))

function pruning(pve: MemoryProxmox, change: { dryRun?: boolean; kept?: boolean } = {}) {
  const events: Event[] = []
  const pruned = prune({
    pve: pve.client(),
    place: PLACE,
    namespace: 'homelab',
    keep: () => 3,
    dryRun: false,
    kept: false,
    tool: '0',
    emit: (event) => events.push(event),
    signal: new AbortController().signal,
    ...change,
  })
  return pruned.then((list) => ({
    ids: list.map(({ kind, id }) => `${kind} ${id}`),
    spared: Object.fromEntries(list.map(({ kind, id, spared }) => [`${kind} ${id}`, spared])),
    events,
  }))
}

/** What every prune must leave alone. */
function innocents(pve: MemoryProxmox) {
  putOurs(pve, 9000, 'current', { digest: DIGEST, version: '20260101.2' })
  putOurs(pve, 9001, 'previous', { version: '20260101.1' })
  putOurs(pve, 9002, 'candidate', { version: '20260101.3' })
  // A user's clone of 9000: tags and note came along.
  pve.put(500, { ...pve.guests.get(9000)?.config, name: 'prod-web' }, { status: 'running' })
  pve.put(501, { name: 'theirs', tags: 'web' }, { status: 'running' })
  putOurs(pve, 9003, 'building', { namespace: 'other', expires: past() })
  putOurs(pve, 9903, 'claim', { namespace: 'other', expires: past() })
  seed(pve, 'run-9003', 'web', 'other')
  pve.addIso('debian-12.iso')
  return structuredClone({ guests: [...pve.guests], isos: pve.isos() })
}

const world = (pve: MemoryProxmox) => ({ guests: [...pve.guests], isos: pve.isos() })

describe('prune', () => {
  test('finds nothing where nothing is left, and touches nothing of anybody', async () => {
    const pve = new MemoryProxmox()
    const before = innocents(pve)
    expect((await pruning(pve, { kept: true })).ids).toEqual([])
    expect(world(pve)).toEqual(before)
    expect(pve.writes).toEqual([])
  })

  test('removes guest, seed and claim of a run that was killed, the claim last: it tells that there is more', async () => {
    const pve = new MemoryProxmox()
    const before = innocents(pve)
    putOurs(pve, 9904, 'claim', { run: 'dead', expires: past() })
    putOurs(pve, 9004, 'building', { run: 'dead' })
    const iso = seed(pve, 'dead')
    const { ids } = await pruning(pve)
    expect(ids).toEqual(['guest VM 9004', `seed ${iso}`, 'claim VM 9904'])
    expect(world(pve)).toEqual(before)
  })

  test('a candidate that nobody has proven goes when the next run has not come for a week, unless somebody builds it', async () => {
    const pve = new MemoryProxmox()
    const version = '20260101.3'
    const daysAgo = (days: number) => new Date(Date.now() - days * 24 * 3600 * 1000).toISOString()
    putOurs(pve, 9004, 'candidate', { version, note: { built: daysAgo(8) } })
    putOurs(pve, 9005, 'candidate', { version, note: { built: daysAgo(6) } })
    putOurs(pve, 9006, 'candidate', { version, note: { built: daysAgo(8) }, verified: 'inside' })
    putOurs(pve, 9007, 'candidate', { version, note: { built: daysAgo(8) }, image: 'db' })
    // The run of another node works here too.
    putOurs(pve, 9904, 'claim', { image: 'db', node: 'b', run: 'another' })
    expect((await pruning(pve)).ids).toEqual(['candidate VM 9004'])
    expect([...pve.guests.keys()]).toEqual([9005, 9006, 9007, 9904])
  })

  test.each([
    ['its claim is gone, and its guest a template', 9904, ['claim VM 9905']],
    ['its guest is gone', 9004, ['claim VM 9905']],
  ])('beside a run that ends at this moment: %s', async (_what, gone, ids) => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9904, 'claim', { run: 'ending' })
    putOurs(pve, 9004, 'building', { run: 'ending' })
    putOurs(pve, 9905, 'claim', { run: 'dead', image: 'db', expires: past() })
    pve.before = (call) => {
      if (call !== `GET /nodes/pve/qemu/${gone}/config`) return
      pve.guests.delete(gone)
      if (gone === 9904) putOurs(pve, 9004, 'current', { run: 'ending', version: '20260101.1' })
    }
    expect((await pruning(pve)).ids).toEqual(ids)
    expect(pve.guests.has(9004)).toBe(gone !== 9004)
  })

  test('waits for a guest that Proxmox is still making for it', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9904, 'claim', { run: 'dead', expires: past() })
    pve.put(9004, { lock: 'create' })
    pve.addTask({ type: 'qmcreate', id: 9004, user: 'builder@pve!t1' })
    pve.put(700, { lock: 'create' }) // somebody's, who may take as long as he likes
    setTimeout(() => putOurs(pve, 9004, 'building', { run: 'dead' }), 50)
    const { ids, events } = await pruning(pve)
    expect(ids).toEqual(['guest VM 9004', 'claim VM 9904'])
    expect(events).toMatchObject([{ type: 'info', message: expect.stringMatching(/^waiting for VM 9004,/) }])
    expect([...pve.guests.keys()]).toEqual([700])
  })

  test('removes a clone that was not marked yet: its note tells, not its parent’s tags', async () => {
    const pve = new MemoryProxmox()
    const before = innocents(pve)
    const parent = pve.guests.get(9000)?.config
    // A user's clone, at a VMID of our range.
    pve.put(9008, { ...parent, name: 'theirs' })
    const cut = putOurs(pve, 9004, 'building', { run: 'dead' })
    cut.config.tags = String(parent?.tags)
    expect((await pruning(pve)).ids).toEqual(['guest VM 9004'])
    expect(pve.guests.delete(9008)).toBe(true)
    expect(world(pve)).toEqual(before)
  })

  test('at once, where the process was one of this machine', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9904, 'claim', { run: 'dead', owner: { ...(await thisOwner()), started: '1' } })
    putOurs(pve, 9004, 'building', { run: 'dead' })
    expect((await pruning(pve)).ids).toEqual(['guest VM 9004', 'claim VM 9904'])
  })

  test('says what it would do, and does nothing, with --dry-run', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9904, 'claim', { run: 'dead', expires: past() })
    putOurs(pve, 9004, 'building', { run: 'dead' })
    const iso = seed(pve, 'dead')
    expect((await pruning(pve, { dryRun: true })).ids).toEqual([
      'guest VM 9004',
      `seed ${iso}`,
      'claim VM 9904',
    ])
    expect(pve.guests.size).toBe(2)
    expect(pve.writes).toEqual([])
  })

  test('leaves a living run its claim, guest and seed, however long it takes', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9904, 'claim', { run: 'alive' })
    putOurs(pve, 9004, 'building', { run: 'alive', expires: past() })
    seed(pve, 'alive')
    const before = structuredClone(world(pve))
    expect((await pruning(pve, { kept: true })).ids).toEqual([])
    expect(world(pve)).toEqual(before)
  })

  test('leaves the seed of a run on another node, whose storage may be the same', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9904, 'claim', { run: 'far', node: 'pve2' })
    seed(pve, 'far')
    expect((await pruning(pve)).ids).toEqual([])
  })

  test('leaves the guest of a run whose claim on another node the cluster’s list does not show yet', async () => {
    const pve = new MemoryProxmox()
    const { config } = putOurs(pve, 9904, 'claim', { run: 'far', node: 'pve2' })
    putOurs(pve, 9004, 'building', { run: 'far' })
    const { tags = '' } = config
    pve.before = (call) => {
      if (call === 'GET /cluster/resources') delete config.tags
    }
    pve.after = (call) => {
      if (call === 'GET /cluster/resources') config.tags = tags
    }
    expect((await pruning(pve)).ids).toEqual([])
  })

  test('leaves a run that begins in this moment its seed', async () => {
    const pve = new MemoryProxmox()
    seed(pve, 'dead')
    let its: string | undefined
    pve.after = (call) => {
      if (!call.startsWith('GET /nodes/pve/qemu')) return
      pve.after = () => {}
      putOurs(pve, 9904, 'claim', { run: 'new' })
      its = seed(pve, 'new')
    }
    await pruning(pve)
    expect(its).toBeDefined()
    expect(pve.isos()).toEqual([its])
  })

  test('leaves a claim that is taken over in this moment', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9904, 'claim', { run: 'dead', expires: past() })
    pve.after = (call) => {
      if (call !== 'GET /nodes/pve/qemu/9904/config') return
      pve.after = () => {}
      putOurs(pve, 9904, 'claim', { run: 'new' })
    }
    await pruning(pve)
    expect([...pve.guests.keys()]).toEqual([9904])
  })

  test('leaves what is left of a run that only slept, and goes on while others’ things are removed', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9904, 'claim', { run: 'slept', expires: past() })
    putOurs(pve, 9004, 'building', { run: 'dead' })
    putOurs(pve, 9005, 'building', { run: 'slept' })
    const iso = seed(pve, 'slept')
    pve.before = (call) => {
      if (call !== 'DELETE /nodes/pve/qemu/9004') return
      putOurs(pve, 9904, 'claim', { run: 'slept' })
    }
    const { spared } = await pruning(pve)
    expect(spared).toEqual({
      'guest VM 9004': undefined,
      'guest VM 9005': 'its run goes on',
      [`seed ${iso}`]: 'its run goes on',
      'claim VM 9904': expect.stringContaining('process 1 on elsewhere.example (run slept)'),
    })
    expect([...pve.guests.keys()]).toEqual([9904, 9005])
  })

  test('a run that wakes up while its claim is removed has lost it, or is faster', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9904, 'claim', { run: 'slept', expires: past() })
    pve.before = (call) => {
      if (!call.startsWith('PUT')) return
      pve.before = () => {}
      putOurs(pve, 9904, 'claim', { run: 'slept' })
    }
    expect((await pruning(pve)).spared).toEqual({ 'claim VM 9904': 'another run has just taken it' })
    expect([...pve.guests.keys()]).toEqual([9904])
    putOurs(pve, 9904, 'claim', { run: 'slept', expires: past() })
    await pruning(pve)
    // Its holder finds another run's name on it until it is gone.
    expect(pve.writes.slice(-2)).toEqual(['PUT /nodes/pve/qemu/9904/config', 'DELETE /nodes/pve/qemu/9904'])
  })

  test.each([
    ['ahead', 600_000],
    ['behind', -600_000],
  ])('judges by the server’s clock, where this machine’s is ten minutes %s of it', async (_how, apart) => {
    const pve = new MemoryProxmox()
    pve.now = () => Date.now() - apart
    const now = (pve.now() ?? 0) / 1000
    for (const [vmid, expires] of [
      [9004, now - 5],
      [9005, now + 5],
    ] as const) {
      putOurs(pve, vmid, 'kept', { run: `failed-${vmid}`, expires })
      putOurs(pve, vmid + 2, 'candidate', { version: '20260101.3', expires })
      putOurs(pve, vmid + 900, 'claim', { image: `image-${vmid}`, run: `run-${vmid}`, expires })
    }
    expect((await pruning(pve)).ids).toEqual(['guest VM 9004', 'candidate VM 9006', 'claim VM 9904'])
  })

  test('takes nothing for over where the server tells no time', async () => {
    const pve = new MemoryProxmox()
    pve.now = () => undefined
    putOurs(pve, 9004, 'kept', { run: 'failed', expires: past() })
    putOurs(pve, 9006, 'candidate', { version: '20260101.3', expires: past() })
    putOurs(pve, 9904, 'claim', { run: 'alive', expires: past() })
    expect((await pruning(pve)).ids).toEqual([])
    expect((await pruning(pve, { kept: true })).ids).toEqual(['guest VM 9004'])
  })

  test('leaves kept guests and their seeds for their day, unless told otherwise', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9004, 'kept', { run: 'failed' })
    const iso = seed(pve, 'failed')
    expect((await pruning(pve)).ids).toEqual([])
    expect((await pruning(pve, { kept: true })).ids).toEqual(['guest VM 9004', `seed ${iso}`])
    expect(pve.guests.size).toBe(0)
  })

  test('removes a kept guest whose day is over', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9004, 'kept', { run: 'failed', expires: past() })
    const iso = seed(pve, 'failed')
    expect((await pruning(pve)).ids).toEqual(['guest VM 9004', `seed ${iso}`])
  })

  test('goes on when one thing cannot be removed, and tells it', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9004, 'building', { run: 'dead' })
    putOurs(pve, 9005, 'building', { run: 'dead' })
    pve.before = (call) => {
      if (call === 'DELETE /nodes/pve/qemu/9004') throw refused('DELETE', 'x', 'VM is locked (backup)')
    }
    const { ids, events } = await pruning(pve)
    expect(ids).toEqual(['guest VM 9005'])
    expect(events).toMatchObject([{ type: 'leak', resource: 'guest VM 9004', image: 'web' }])
    expect([...pve.guests.keys()]).toEqual([9004])
  })
})
