import { describe, expect, test } from 'vitest'
import type { Event } from '../../src/core/events.ts'
import { parseSeedName, seedName, uploadSeed } from '../../src/pve/seeds.ts'
import { MemoryProxmox, PLACE, refused } from './memory-proxmox.ts'

const SEED = { namespace: 'home-lab', image: 'debian-base', run: 'cafe0123', expires: 1762905600 }

describe('the name of a seed', () => {
  test('says whose it is, there and back', () => {
    const name = seedName(SEED)
    expect(name).toBe('ib-seed.home-lab.debian-base.cafe0123.1762905600.iso')
    expect(parseSeedName(name)).toEqual(SEED)
    expect(parseSeedName(seedName({ ...SEED, expires: 1762905600.2 }))).toEqual({
      ...SEED,
      expires: 1762905601,
    })
  })

  test('is another one on each node, which may share the storage; whose it is stays the same', () => {
    const name = seedName({ ...SEED, node: 'pve-2' })
    expect(name).not.toBe(seedName(SEED))
    expect(parseSeedName(name)).toEqual(SEED)
  })

  test.each([
    'debian-12.iso',
    'ib-seed.iso',
    'ib-seed.a.b.c.iso',
    'ib-seed.a.b.c.x.iso',
    'my-ib-seed.a.b.c.1.iso',
    '',
  ])('%s is not one', (name) => {
    expect(parseSeedName(name)).toBeUndefined()
  })
})

describe('a seed', () => {
  const upload = (pve: MemoryProxmox, events: Event[] = [], signal = new AbortController().signal) =>
    uploadSeed(pve.client(signal), PLACE, {
      ...SEED,
      bytes: new Uint8Array(10),
      emit: (event) => events.push(event),
      signal,
    })

  test('is on the storage while its scope lasts, under the volume id that Proxmox says', async () => {
    const pve = new MemoryProxmox()
    {
      await using seed = await upload(pve)
      expect(seed.volid).toBe(`local:iso/${seedName(SEED)}`)
      expect(pve.isos()).toEqual([seed.volid])
    }
    expect(pve.isos()).toEqual([])
  })

  test('stays when it is kept', async () => {
    const pve = new MemoryProxmox()
    {
      await using seed = await upload(pve)
      seed.keep()
    }
    expect(pve.isos()).toHaveLength(1)
  })

  test('whose upload fails after Proxmox had it is removed', async () => {
    const pve = new MemoryProxmox()
    pve.work = async (type) => (type === 'imgcopy' ? 'checksum mismatch' : undefined)
    await expect(upload(pve)).rejects.toThrow('checksum mismatch')
    expect(pve.isos()).toEqual([])
  })

  test('is removed although the build was aborted', async () => {
    const pve = new MemoryProxmox()
    const controller = new AbortController()
    {
      await using _seed = await upload(pve, [], controller.signal)
      controller.abort(new Error('Ctrl-C'))
    }
    expect(pve.isos()).toEqual([])
  })

  test('that somebody removed is no error; one that cannot be removed is a leak', async () => {
    const pve = new MemoryProxmox()
    const events: Event[] = []
    {
      await using _seed = await upload(pve, events)
      pve.files.length = 0
    }
    expect(events).toEqual([])
    {
      await using _seed = await upload(pve, events)
      pve.before = (call) => {
        if (call.startsWith('DELETE')) throw refused('DELETE', 'x', 'Permission check failed', 403)
      }
    }
    expect(events).toMatchObject([{ type: 'leak', resource: `${seedName(SEED)} on storage local` }])
  })
})
