import { describe, expect, test } from 'vitest'
import type { PlacedSource } from '../../src/build/placement.ts'
import { requireRoom } from '../../src/build/require-room.ts'
import { judgeRoom, type RoomAsked } from '../../src/build/room.ts'
import type { SourceDecision } from '../../src/build/source.ts'
import type { ImagebuildError } from '../../src/core/errors.ts'
import { imageSpec, lxcSpec } from '../plan/spec.ts'
import { MemoryProxmox } from '../pve/memory-proxmox.ts'
import { aBuild } from './world.ts'

const GIB = 2 ** 30

const asked = (
  change: Omit<Partial<RoomAsked>, 'storage'> & { type?: string; avail?: number },
): RoomAsked => {
  const { type = 'lvmthin', avail = 100 * GIB, ...rest } = change
  return {
    ...{ image: 'web', kind: 'vm', node: 'pve', storage: { id: 'disks', type, avail } },
    ...{ disk: { whole: 10 * GIB, least: GIB }, verified: true },
    ...rest,
  }
}
const refusal = (of: RoomAsked): ImagebuildError | undefined => {
  try {
    judgeRoom(of)
    return undefined
  } catch (error) {
    return error as ImagebuildError
  }
}

describe('on a thin storage', () => {
  test.each(['lvmthin', 'dir', 'zfspool', 'rbd', 'btrfs', 'nfs', 'of-a-plugin'])(
    'a disk of 32 GiB with 20 GiB free is no reason to refuse, and said: %s',
    (type) => {
      const said = judgeRoom(asked({ type, avail: 20 * GIB, disk: { whole: 32 * GIB, least: 2 * GIB } }))
      expect(said).toContain(
        'storage disks on pve has 20.0 GiB free, and the disk of web may grow to 32.0 GiB',
      )
      expect(said?.includes('ZFS reserves all of it')).toBe(type === 'zfspool')
    },
  )

  test('nothing is said where the whole disk has room', () => {
    expect(judgeRoom(asked({ avail: 10 * GIB }))).toBeUndefined()
  })

  test('what the source image really takes must be there', () => {
    expect(refusal(asked({ avail: GIB }))).toBeUndefined()
    expect(refusal(asked({ avail: GIB - 1 }))).toBeDefined()
    expect(refusal(asked({ avail: GIB / 2 }))).toMatchObject({
      exitCode: 75,
      what: 'storage disks on pve has no room for building web',
      why: expect.stringMatching(
        /^1\.0 GiB are needed at least, and 512\.0 MiB are there:\n1\.0 GiB for the template: what its source image really takes; its disk may grow to 10\.0 GiB$/,
      ),
      next: expect.stringMatching(/imagebuild prune.*template\.keep.*another storage/),
    })
  })

  test('one that is full is refused, whatever the source takes', () => {
    expect(refusal(asked({ avail: 0, disk: { whole: 0, least: 0 } }))).toMatchObject({ why: 'it is full' })
  })

  test.each([
    ['vm', 'lvmthin', 1],
    ['vm', 'dir', 1],
    ['lxc', 'lvmthin', 1],
    ['lxc', 'zfspool', 1],
    // Proxmox links no containers on directories: clones are copies.
    ['lxc', 'dir', 3],
    ['lxc', 'nfs', 3],
  ] as const)('clones of a %s on %s share its disk or not: %i times the source', (kind, type, times) => {
    expect(refusal(asked({ kind, type, avail: times * GIB }))).toBeUndefined()
    expect(refusal(asked({ kind, type, avail: times * GIB - 1 }))).toBeDefined()
    expect(refusal(asked({ kind, type, avail: GIB, verified: false }))).toBeUndefined()
  })

  test('a fixed VMID takes one more copy, not at the same time as the clones', () => {
    const fixed = { vmid: 9000, replaces: 10 * GIB }
    expect(refusal(asked({ fixed, avail: 2 * GIB }))).toBeUndefined()
    expect(refusal(asked({ fixed, avail: 2 * GIB - 1 }))?.why).toContain(
      '1.0 GiB for a copy while VMID 9000 is replaced',
    )
    expect(refusal(asked({ fixed, kind: 'lxc', type: 'dir', avail: 3 * GIB }))).toBeUndefined()
  })
})

describe('on a thick storage', () => {
  test('the whole disk must be there, and those of the clones with what one of them grows by', () => {
    expect(refusal(asked({ type: 'lvm', avail: 31 * GIB }))).toBeUndefined()
    const why = refusal(asked({ type: 'lvm', avail: 31 * GIB - 1 }))?.why
    expect(why).toContain('31.0 GiB are needed at least')
    expect(why).toContain('10.0 GiB for the template: the whole size of its disk')
    expect(why).toContain(
      '21.0 GiB for two clones that verify it: on a storage of type lvm they are whole copies',
    )
  })

  test('a swap copies what is larger, the old one or the new one', () => {
    const swap = (replaces: number, avail: number) =>
      refusal(asked({ type: 'lvm', verified: false, fixed: { vmid: 9000, replaces }, avail: avail * GIB }))
    expect([swap(0, 20), swap(15 * GIB, 25)]).toEqual([undefined, undefined])
    expect(swap(0, 19)).toBeDefined()
    expect(swap(15 * GIB, 24)).toBeDefined()
  })
})

describe('before a build', () => {
  const RECORD = { request: 'x', identity: 'sha256:1', version: '', fallback: false }
  const file: SourceDecision = {
    record: RECORD,
    from: {
      kind: 'file',
      file: { url: 'https://x/y.qcow2', checksum: { algorithm: 'sha256', value: '1' }, format: 'qcow2' },
    },
  }
  const volume: PlacedSource = { kind: 'volume', volid: 'local:import/y.qcow2' }

  function world(avail: number, type = 'lvmthin') {
    const pve = new MemoryProxmox()
    const size = { total: 100 * GIB, avail }
    pve.storages.set('local-lvm', { type, content: 'images,rootdir', active: 1, enabled: 1, ...size })
    pve.volumes.set('local:import/y.qcow2', { size: 3 * GIB, used: GIB, format: 'qcow2' })
    return pve
  }
  const disk = (size: number) => imageSpec({ hardware: { ...imageSpec().hardware, disk: size } })

  test('what is known without the source is asked before that is fetched', async () => {
    const pve = world(9 * GIB, 'lvm')
    await expect(requireRoom(aBuild({ image: disk(10 * GIB) }, pve), file)).rejects.toMatchObject({
      exitCode: 75,
    })
    await requireRoom(aBuild({ image: imageSpec() }, pve), file)
    const recipe = { distribution: 'debian', suite: 'bookworm', arch: 'amd64' } as const
    const bootstrap: SourceDecision = { record: RECORD, from: { kind: 'bootstrap', recipe } }
    await expect(requireRoom(aBuild({}, world(GIB, 'lvm')), bootstrap)).rejects.toMatchObject({
      exitCode: 75,
    })
  })

  test('a parent’s template tells its size', async () => {
    const pve = world(9 * GIB, 'lvm')
    pve.put(9001, { scsi0: 'local-lvm:base-9001-disk-0,size=10G', template: 1 })
    const template = { kind: 'vm', node: 'pve', vmid: 9001, name: 'base', marks: {} } as never
    await expect(
      requireRoom(aBuild({}, pve), { record: RECORD, from: { kind: 'template', template } }),
    ).rejects.toMatchObject({ why: expect.stringContaining('10.0 GiB for the template') })
  })

  test('the source’s own size counts once it lies there', async () => {
    await requireRoom(aBuild({}, world(GIB)), file, volume)
    await requireRoom(aBuild({}, world(GIB - 1)), file)
    await expect(requireRoom(aBuild({}, world(GIB - 1)), file, volume)).rejects.toMatchObject({
      why: expect.stringContaining('its disk may grow to 3.0 GiB'),
    })
  })

  test('a qcow2 with all of its clusters, or a raw file, tells nothing of what is in it', async () => {
    for (const info of [
      { size: 3 * GIB, used: 3 * GIB, format: 'qcow2' },
      { size: 3 * GIB, used: 2 * GIB, format: 'raw' },
    ]) {
      const pve = world(GIB)
      pve.volumes.set('local:import/y.qcow2', info)
      await requireRoom(aBuild({}, pve), file, volume)
    }
  })

  test('a disk that may outgrow the storage is warned of once', async () => {
    const build = aBuild({ image: disk(32 * GIB) }, world(20 * GIB))
    await requireRoom(build, file)
    await requireRoom(build, file, volume)
    expect(build.events).toEqual([
      expect.objectContaining({ type: 'warning', message: expect.stringContaining('may grow to 32.0 GiB') }),
    ])
  })

  test.each(['listed with its size', 'listed without'])(
    'a container’s packed archive, %s, is less than its tree',
    async (how) => {
      const pve = world(100)
      const volid = 'local:vztmpl/x.tar.zst'
      pve.volumes.set(volid, { size: 101, used: 101, format: 'tzst' })
      pve.files.push({ volid, ctime: 0, content: 'vztmpl', ...(how.endsWith('size') && { size: 101 }) })
      const placed = { kind: 'archive', volid } as const
      await expect(requireRoom(aBuild({ image: lxcSpec() }, pve), file, placed)).rejects.toMatchObject({
        exitCode: 75,
      })
    },
  )

  test('the size of what has the fixed VMID counts', async () => {
    const image = imageSpec({ ...disk(10 * GIB), template: { tags: [], keep: 3, vmid: 9500 } })
    const pve = world(25 * GIB - 1, 'lvm')
    pve.put(9500, { scsi0: 'local-lvm:base-9500-disk-0,size=15G', template: 1 })
    await expect(requireRoom(aBuild({ image }, pve), file)).rejects.toMatchObject({
      why: expect.stringContaining('15.0 GiB for a copy while VMID 9500 is replaced'),
    })
  })

  test('a storage that does not say how much room it has is not in the way', async () => {
    await requireRoom(aBuild({ image: disk(10 ** 15) }), file, volume)
    const pve = world(0, 'of-a-plugin')
    const image = disk(10 * GIB)
    await expect(requireRoom(aBuild({ image }, pve), file)).rejects.toMatchObject({ why: 'it is full' })
    pve.storages.set('local-lvm', {
      ...{ type: 'of-a-plugin', content: 'images,rootdir', active: 1, enabled: 1 },
      ...{ total: 0, avail: 0 },
    })
    await requireRoom(aBuild({ image }, pve), file)
  })
})
