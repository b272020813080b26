import { describe, expect, test } from 'vitest'
import { removeLeftovers } from '../../src/build/leftovers.ts'
import { PveError } from '../../src/pve/errors.ts'
import { seedName } from '../../src/pve/seeds.ts'
import { MemoryProxmox, past, refused } from '../pve/memory-proxmox.ts'
import { putOurs } from '../pve/our-guest.ts'
import { aBuild, aClaim } from './world.ts'

const DIGEST = `sha256:${'ab'.repeat(32)}`

const seed = (pve: MemoryProxmox, run: string, image = 'web', namespace = 'homelab') =>
  pve.addIso(seedName({ namespace, image, run, expires: past() }))

const world = (pve: MemoryProxmox) => ({ guests: [...pve.guests], isos: pve.isos() })

describe('before a build, under its claim', () => {
  const nothing = { force: false, noCache: false, onError: 'cleanup', verify: 'off' } as const

  test('what an interrupted run of this image left is removed; all else stays', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9903, 'claim', { run: 'mine' })
    putOurs(pve, 9010, 'kept', { run: 'failed', expires: past() })
    seed(pve, 'failed')
    putOurs(pve, 9011, 'building', { image: 'db' })
    seed(pve, 'run-9011', 'db')
    putOurs(pve, 9001, 'previous')
    putOurs(pve, 9012, 'building', { namespace: 'other' })
    seed(pve, 'run-9012', 'web', 'other')
    pve.put(500, { ...pve.guests.get(9001)?.config })
    const before = structuredClone(world(pve))
    putOurs(pve, 9004, 'building', { run: 'dead' })
    putOurs(pve, 9005, 'building', { note: false })
    seed(pve, 'dead')
    const build = aBuild({ options: nothing }, pve)
    expect(await removeLeftovers(build, aClaim(), DIGEST)).toEqual({})
    expect(world(pve)).toEqual(before)
    expect(build.events.map((event) => ('message' in event ? event.message : event))).toEqual([
      'removing VM 9004, left by an interrupted run',
      'removing VM 9005, left by an interrupted run',
    ])
  })

  test('a VMID that was freed meanwhile, and is somebody’s by now, is left alone', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9001, 'building', { run: 'dead' })
    putOurs(pve, 9002, 'building', { run: 'dead' })
    pve.before = (call) => {
      if (call !== 'DELETE /nodes/pve/qemu/9001') return
      pve.guests.delete(9002)
      pve.put(9002, { name: 'database' }, { status: 'running' })
    }
    await removeLeftovers(aBuild({ options: nothing }, pve), aClaim(), DIGEST)
    expect([...pve.guests].map(([vmid, { status }]) => [vmid, status])).toEqual([[9002, 'running']])
  })

  test('a finished candidate with this digest is used; one with another digest is removed', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9000, 'current', { digest: 'sha256:old', version: '20260101.1' })
    putOurs(pve, 9002, 'candidate', { digest: 'sha256:other', version: '20260102.1' })
    putOurs(pve, 9003, 'candidate', { digest: DIGEST, version: '20260102.2' })
    putOurs(pve, 9004, 'candidate', { digest: DIGEST, version: '20260102.3' })
    const found = await removeLeftovers(aBuild({}, pve), aClaim(), DIGEST)
    expect(found.current).toBeUndefined()
    expect(found.candidate?.vmid).toBe(9003)
    expect([...pve.guests.keys()]).toEqual([9000, 9003])
  })

  test('clones of an outdated candidate, left while it was verified, go before it', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9002, 'candidate', { digest: 'sha256:other', version: '20260102.1' })
    putOurs(pve, 9003, 'building', { run: 'dead' })
    putOurs(pve, 9004, 'building', { run: 'dead' })
    pve.before = (call) => {
      if (call === 'DELETE /nodes/pve/qemu/9002' && pve.guests.size > 1)
        throw refused('DELETE', 'x', 'base volume is still in use by linked clones')
    }
    await removeLeftovers(aBuild({}, pve), aClaim(), DIGEST)
    expect([...pve.guests.keys()]).toEqual([])
  })

  test('an outdated candidate that somebody promotes at this moment stays', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9002, 'candidate', { digest: 'sha256:other', version: '20260102.1' })
    pve.before = (call) => {
      if (!call.startsWith('PUT')) return
      pve.before = () => {}
      putOurs(pve, 9002, 'current', { digest: 'sha256:other', version: '20260102.1' })
    }
    await removeLeftovers(aBuild({}, pve), aClaim(), DIGEST)
    expect(pve.tagsOf(9002)).toContain('ib-current')
  })

  test('an outdated candidate goes also where the answer is lost to the mark that says so', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9002, 'candidate', { digest: 'sha256:other', version: '20260102.1' })
    pve.after = (call) => {
      if (!call.startsWith('PUT')) return
      pve.after = () => {}
      throw new PveError({ method: 'PUT', path: call, delivery: 'unknown', message: 'gone', passing: true })
    }
    await removeLeftovers(aBuild({}, pve), aClaim(), DIGEST)
    expect([...pve.guests.keys()]).toEqual([])
  })

  test('is not used, but removed, where a rebuild is asked for', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9000, 'current', { digest: DIGEST, version: '20260101.1' })
    putOurs(pve, 9003, 'candidate', { digest: DIGEST, version: '20260102.2' })
    const found = await removeLeftovers(
      aBuild({ options: { ...nothing, force: true } }, pve),
      aClaim(),
      DIGEST,
    )
    expect(found).toEqual({})
    expect([...pve.guests.keys()]).toEqual([9000])
  })

  test('what another run finished while this one waited is found', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9000, 'current', { digest: DIGEST, version: '20260101.1' })
    expect((await removeLeftovers(aBuild({}, pve), aClaim(), DIGEST)).current?.vmid).toBe(9000)
  })
})
