import { describe, expect, test } from 'vitest'
import { claimImage } from '../../src/pve/claim.ts'
import { CLAIM_SECONDS } from '../../src/pve/claim-note.ts'
import { fromTags, type Note, parseNote, renderNote, toTags } from '../../src/pve/marks.ts'
import { thisOwner } from '../../src/pve/owner.ts'
import { held, request, runAt, SLOT } from './claims.ts'
import { MemoryProxmox, PLACE, past, refused, SOMEBODY } from './memory-proxmox.ts'

describe('a claim', () => {
  test('is a diskless VM at the image’s slot that says whose it is and until when', async () => {
    const pve = new MemoryProxmox()
    {
      const begun = Math.floor(Date.now() / 1000)
      await using _claim = await claimImage(pve.client(), request())
      const ended = Math.ceil(Date.now() / 1000)
      const config = pve.guests.get(SLOT)?.config ?? {}
      expect(Object.keys(config).filter((key) => /^(scsi|ide|sata|virtio|efidisk)\d/.test(key))).toEqual([])
      expect(fromTags(SLOT, String(config.tags))).toMatchObject({
        state: 'claim',
        image: 'web',
        namespace: 'homelab',
      })
      const note = parseNote(SLOT, String(config.description))
      expect(note).toMatchObject({ run: 'mine', owner: SOMEBODY })
      expect(note?.expires).toBeGreaterThanOrEqual(begun + CLAIM_SECONDS)
      expect(note?.expires).toBeLessThanOrEqual(ended + CLAIM_SECONDS)
    }
    expect(pve.guests.size).toBe(0)
  })

  test('is in the pool that a token may be limited to', async () => {
    const pve = new MemoryProxmox()
    let pool: unknown
    pve.before = (call, params) => {
      if (call.startsWith('POST')) pool = params.pool
    }
    await using _claim = await claimImage(pve.client(), request({ place: { ...PLACE, pool: 'builders' } }))
    expect(pool).toBe('builders')
  })
})

describe('an image that another builder holds', () => {
  test('is busy: the error says who and until when, and nothing is changed', async () => {
    const pve = new MemoryProxmox()
    held(pve)
    const before = structuredClone(pve.guests.get(SLOT))
    const error = await claimImage(pve.client(), request()).catch((error) => error)
    expect(error).toMatchObject({ code: 'busy', exitCode: 75, what: 'web is being built already' })
    expect(error.why).toContain('process 1 on elsewhere.example')
    expect(error.why).toContain('run theirs')
    expect(error.why).toContain('building it since 2026-01-01T00:00:00.000Z')
    expect(error.why).toMatch(/until \d{4}-\d\d-\d\dT/)
    expect(error.next).toContain('--wait')
    expect(pve.guests.get(SLOT)).toEqual(before)
    expect(pve.guests.size).toBe(1)
  })

  test('under a note of an older version is busy too, which does not say since when', async () => {
    const pve = new MemoryProxmox()
    const { since: _, ...note } = parseNote(SLOT, String(held(pve).config.description)) as Note
    const guest = pve.guests.get(SLOT)
    if (guest) guest.config.description = renderNote(note)
    const error = await claimImage(pve.client(), request()).catch((error) => error)
    expect(error).toMatchObject({ code: 'busy', why: expect.stringContaining('building it; its claim') })
  })

  test('on another node is busy too', async () => {
    const pve = new MemoryProxmox()
    held(pve, {}, SLOT, 'pve2')
    await expect(claimImage(pve.client(), request())).rejects.toMatchObject({ code: 'busy' })
    expect(pve.guests.size).toBe(1)
  })

  test('who is only just creating the claim, which shows no marks until then, is waited for', async () => {
    const pve = new MemoryProxmox()
    const go = Promise.withResolvers<undefined>()
    pve.work = (type) => (type === 'qmcreate' ? go.promise : Promise.resolve(undefined))
    const first = claimImage(pve.client(), request({ run: 'first' }))
    while (pve.guests.get(SLOT)?.config.lock !== 'create') await new Promise(setImmediate)
    const second = claimImage(pve.client(), request({ run: 'second' }))
    second.catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 20))
    go.resolve(undefined)
    await using _first = await first
    await expect(second).rejects.toMatchObject({ code: 'busy' })
    expect([...pve.guests.keys()]).toEqual([SLOT])
    expect(runAt(pve)).toBe('first')
  })
})

describe('a claim is taken over', () => {
  test.each([
    ['when it was not renewed', { expires: past() }],
    ['when its note is gone', { vmid: 1 }],
  ])('%s', async (_when, note) => {
    const pve = new MemoryProxmox()
    held(pve, note)
    // Tags of the slot itself, whatever the note says.
    const guest = pve.guests.get(SLOT)
    if (guest)
      guest.config.tags = toTags({
        vmid: SLOT,
        namespace: 'homelab',
        image: 'web',
        state: 'claim',
        expires: past(),
      })
    {
      await using _claim = await claimImage(pve.client(), request())
      expect(runAt(pve)).toBe('mine')
      expect(pve.writes.filter((call) => call.startsWith('PUT'))).toHaveLength(1)
    }
    expect(pve.guests.size).toBe(0)
  })

  test('at once when its owner, a process of this machine, is dead', async () => {
    const pve = new MemoryProxmox()
    held(pve, { owner: { ...(await thisOwner()), started: '1' } })
    await using _claim = await claimImage(pve.client(), request())
    expect(runAt(pve)).toBe('mine')
  })

  test('by one of two: the other one is told', async () => {
    const pve = new MemoryProxmox()
    held(pve, { expires: past() })
    pve.before = (call) => {
      if (!call.startsWith('PUT')) return
      pve.before = () => {}
      held(pve, { run: 'quicker' })
    }
    const error = await claimImage(pve.client(), request()).catch((error) => error)
    expect(error).toMatchObject({ code: 'busy' })
    expect(error.what).toMatch(/at the same moment/)
    expect(runAt(pve)).toBe('quicker')
  })

  test('unless Proxmox refuses it: then that is the error', async () => {
    const pve = new MemoryProxmox()
    held(pve, { expires: past() })
    pve.before = (call) => {
      if (call.startsWith('PUT')) throw refused('PUT', 'x', 'Permission check failed', 403)
    }
    await expect(claimImage(pve.client(), request())).rejects.toMatchObject({ code: 'permission_denied' })
  })

  test('also on another node', async () => {
    const pve = new MemoryProxmox()
    held(pve, { expires: past() }, SLOT, 'pve2')
    {
      await using _claim = await claimImage(pve.client(), request())
      expect(runAt(pve)).toBe('mine')
      expect(pve.guests.get(SLOT)?.node).toBe('pve2')
    }
    expect(pve.guests.size).toBe(0)
  })
})

describe('a slot that belongs to something else', () => {
  test.each<[string, (pve: MemoryProxmox) => void]>([
    ['somebody’s VM', (pve) => pve.put(SLOT, { name: 'theirs' })],
    ['another image’s claim', (pve) => held(pve, { image: 'db' })],
    ['another namespace’s claim', (pve) => held(pve, { namespace: 'other' })],
    [
      'a clone of one of our templates',
      (pve) =>
        pve.put(SLOT, { tags: toTags({ vmid: 9000, namespace: 'homelab', image: 'web', state: 'current' }) }),
    ],
  ])('%s is left alone; the next one is taken', async (_what, put) => {
    const pve = new MemoryProxmox()
    put(pve)
    const before = structuredClone(pve.guests.get(SLOT))
    {
      await using _claim = await claimImage(pve.client(), request())
      expect(runAt(pve, SLOT + 1)).toBe('mine')
    }
    expect([...pve.guests]).toEqual([[SLOT, before]])
  })

  test('does not let a second builder in when it becomes free', async () => {
    const pve = new MemoryProxmox()
    held(pve, { image: 'db' })
    await using _first = await claimImage(pve.client(), request({ run: 'first' }))
    expect(runAt(pve, SLOT + 1)).toBe('first')
    pve.guests.delete(SLOT)
    const error = await claimImage(pve.client(), request({ run: 'second' })).catch((error) => error)
    expect(error).toMatchObject({ code: 'busy', why: expect.stringContaining('run first') })
    expect([...pve.guests.keys()]).toEqual([SLOT + 1])
  })

  test('does not let a second builder in either, when it becomes free between his look and his claim', async () => {
    const pve = new MemoryProxmox()
    pve.before = (call) => {
      if (!call.startsWith('POST')) return
      pve.before = () => {}
      held(pve, { run: 'first' }, SLOT + 1)
    }
    const error = await claimImage(pve.client(), request({ run: 'second' })).catch((error) => error)
    expect(error).toMatchObject({ code: 'busy', why: expect.stringContaining('run first') })
    expect([...pve.guests.keys()]).toEqual([SLOT + 1])
  })

  test('the range is searched round to its beginning, and has an end', async () => {
    const pve = new MemoryProxmox()
    for (let vmid = 9900; vmid <= 9909; vmid += 1) if (vmid !== 9901) pve.put(vmid, { name: 'theirs' })
    {
      await using _claim = await claimImage(pve.client(), request())
      expect(runAt(pve, 9901)).toBe('mine')
    }
    pve.put(9901, { name: 'theirs' })
    await expect(claimImage(pve.client(), request())).rejects.toMatchObject({
      code: 'busy',
      what: 'all VMIDs for claims, 9900 to 9909, are taken',
    })
  })
})

describe('claiming is cut short', () => {
  test('in the middle of creating: the claim does not stay behind', async () => {
    const pve = new MemoryProxmox()
    const controller = new AbortController()
    const reason = new Error('Ctrl-C')
    const go = Promise.withResolvers<undefined>()
    pve.work = (type) => (type === 'qmcreate' ? go.promise : Promise.resolve(undefined))
    pve.after = (call) => {
      if (call.startsWith('POST')) controller.abort(reason)
      setTimeout(() => go.resolve(undefined), 50)
    }
    await expect(claimImage(pve.client(controller.signal), request())).rejects.toBe(reason)
    expect(pve.guests.size).toBe(0)
  })

  test('Proxmox refuses: that is the error, nobody else’s guest is touched', async () => {
    const pve = new MemoryProxmox()
    pve.put(SLOT, { name: 'theirs' })
    pve.before = (call) => {
      if (call.startsWith('POST')) throw refused('POST', '/nodes/pve/qemu', 'Permission check failed', 403)
    }
    await expect(claimImage(pve.client(), request())).rejects.toMatchObject({ code: 'permission_denied' })
    expect(pve.guests.size).toBe(1)
  })
})
