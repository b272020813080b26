import { afterEach, describe, expect, test, vi } from 'vitest'
import { claimImage } from '../../src/pve/claim.ts'
import { CLAIM_SECONDS } from '../../src/pve/claim-note.ts'
import { ClaimLost } from '../../src/pve/claim-refused.ts'
import type { Pve } from '../../src/pve/client.ts'
import { PveError } from '../../src/pve/errors.ts'
import { fromTags, parseNote } from '../../src/pve/marks.ts'
import { pause } from '../core/paused.ts'
import { held, request, runAt, SLOT } from './claims.ts'
import { MemoryProxmox, past, refused } from './memory-proxmox.ts'

afterEach(() => {
  vi.useRealTimers()
})

describe('while it is held', () => {
  const expiry = (pve: MemoryProxmox) =>
    parseNote(SLOT, String(pve.guests.get(SLOT)?.config.description))?.expires ?? 0

  test('it is renewed, long before it expires', async () => {
    vi.useFakeTimers()
    const pve = new MemoryProxmox()
    const asked = request()
    await using _claim = await claimImage(pve.client(), asked)
    const since = () => parseNote(SLOT, String(pve.guests.get(SLOT)?.config.description))?.since
    const [first, begun] = [expiry(pve), since()]
    expect(Date.now() - Date.parse(begun ?? '')).toBeLessThan(1000)
    await vi.advanceTimersByTimeAsync(CLAIM_SECONDS * 1000)
    expect(since()).toBe(begun)
    expect(expiry(pve)).toBeGreaterThan(first + CLAIM_SECONDS / 2)
    expect(fromTags(SLOT, String(pve.guests.get(SLOT)?.config.tags))?.expires).toBe(expiry(pve))
    expect(asked.lost).toEqual([])
    vi.useRealTimers()
  })

  test('it is renewed also when nobody waits for it any more, until it is released', async () => {
    vi.useFakeTimers()
    const pve = new MemoryProxmox()
    const stop = new AbortController()
    await using _claim = await claimImage(pve.client(stop.signal), request({ signal: stop.signal }))
    const first = expiry(pve)
    stop.abort(new Error('Ctrl-C'))
    await vi.advanceTimersByTimeAsync(CLAIM_SECONDS * 1000)
    expect(expiry(pve)).toBeGreaterThan(first)
    vi.useRealTimers()
  })

  test.each<[string, () => void | Promise<void>]>([
    ['hangs', () => new Promise(() => {})],
    [
      'fails',
      () => {
        throw refused('PUT', 'x', 'cluster not ready - no quorum?')
      },
    ],
  ])(
    'a renewal that %s for longer than the claim is good for loses nothing, and is told once',
    async (_what, meddle) => {
      vi.useFakeTimers()
      const pve = new MemoryProxmox()
      const asked = request()
      await using _claim = await claimImage(pve.client(), asked)
      pve.before = (call) => (call.startsWith('PUT') ? meddle() : undefined)
      await vi.advanceTimersByTimeAsync(3 * CLAIM_SECONDS * 1000)
      expect(asked.lost).toEqual([])
      expect(asked.events).toMatchObject([
        {
          type: 'warning',
          message: expect.stringMatching(/^the claim on web has not been renewed for 240 s/),
        },
      ])
      pve.before = () => {}
      vi.useRealTimers()
    },
  )

  test('a renewal that another change, or a lost answer, comes between is written once more', async () => {
    const pve = new MemoryProxmox()
    const asked = request()
    await using claim = await claimImage(pve.client(), asked)
    let puts = 0
    pve.before = (call) => {
      if (call.startsWith('PUT') && ++puts === 1)
        Object.assign(pve.guests.get(SLOT)?.config ?? {}, { name: 'x' })
    }
    pve.after = (call) => {
      if (call.startsWith('PUT') && puts === 2)
        throw new PveError({ method: 'PUT', path: call, delivery: 'unknown', message: 'gone', passing: true })
    }
    await claim.confirm()
    expect(puts).toBe(3)
    expect(asked.lost).toEqual([])
  })

  test('long after it has expired it is still this run’s, if nobody else has taken it', async () => {
    const pve = new MemoryProxmox()
    const asked = request()
    await using claim = await claimImage(pve.client(), asked)
    held(pve, { run: 'mine', expires: past() - 3600 })
    await claim.confirm()
    expect(expiry(pve)).toBeGreaterThan(Date.now() / 1000 + CLAIM_SECONDS / 2)
    expect(asked.lost).toEqual([])
    expect(claim.wasGone).toBe(false)
  })

  test('another run’s: this one is stopped at once, is told what it looks like, and leaves it alone', async () => {
    const pve = new MemoryProxmox()
    let now = Date.now()
    pve.now = () => now
    const asked = request()
    const claim = await claimImage(pve.client(), asked)
    now += 600_000
    held(pve, { run: 'thief', expires: now / 1000 + 100 })
    const there = structuredClone(pve.guests.get(SLOT))
    const error = await claim.confirm().catch((error) => error)
    expect(error).toBeInstanceOf(ClaimLost)
    expect(error).toMatchObject({ code: 'busy', exitCode: 75 })
    expect(error.why).toContain('process 1 on elsewhere.example (run thief)')
    expect(error.why).toMatch(/had not renewed it for 60\d s: was this machine suspended/)
    expect(error.next).toContain('run the same command again')
    expect(asked.lost).toEqual([error])
    await expect(claim.setTags(['ib-wants-192.0.2.1'])).rejects.toBe(error)
    await claim[Symbol.asyncDispose]()
    expect(pve.guests.get(SLOT)).toEqual(there)
    expect(asked.lost).toEqual([error])
  })

  test('another run’s is noticed by the renewal, too', async () => {
    vi.useFakeTimers()
    const pve = new MemoryProxmox()
    const asked = request()
    await using _claim = await claimImage(pve.client(), asked)
    held(pve, { run: 'thief' })
    await vi.advanceTimersByTimeAsync(61_000)
    vi.useRealTimers()
    await expect.poll(() => asked.lost).toHaveLength(1)
    expect((asked.lost[0] as ClaimLost).why).toContain('of an older version')
  })

  test.each<[string, (pve: MemoryProxmox) => void]>([
    ['removed', (pve) => pve.guests.delete(SLOT)],
    ['replaced by somebody’s VM', (pve) => pve.put(SLOT, { name: 'theirs' })],
    ['taken by a run that is gone by now', (pve) => held(pve, { run: 'dead', expires: past() })],
    [
      'robbed of its note',
      (pve) => {
        const { config } = pve.guests.get(SLOT) as { config: Record<string, unknown> }
        config.description = 'Do not touch!'
      },
    ],
  ])('%s: the image is claimed anew, with what the claim said, and it is told', async (_what, meddle) => {
    const pve = new MemoryProxmox()
    const asked = request()
    {
      await using claim = await claimImage(pve.client(), asked)
      await claim.setTags(['ib-address-192.0.2.7'])
      meddle(pve)
      await claim.confirm()
      expect(asked.lost).toEqual([])
      expect(claim.wasGone).toBe(true)
      expect(asked.events).toMatchObject([{ type: 'warning', message: expect.stringContaining('was gone') }])
      expect(runAt(pve, claim.vmid)).toBe('mine')
      expect(pve.tagsOf(claim.vmid)).toContain('ib-address-192.0.2.7')
    }
    expect([...pve.guests.values()].flatMap(({ config }) => config.name ?? [])).toEqual(
      _what.includes('VM') ? ['theirs'] : [],
    )
  })

  test('removed, and claimed by another run meanwhile, whatever its VMID: it is lost', async () => {
    const pve = new MemoryProxmox()
    const asked = request()
    const claim = await claimImage(pve.client(), asked)
    pve.guests.delete(SLOT)
    held(pve, { run: 'thief' }, SLOT + 3)
    await expect(claim.confirm()).rejects.toBeInstanceOf(ClaimLost)
    await claim[Symbol.asyncDispose]()
    expect([...pve.guests.keys()]).toEqual([SLOT + 3])
  })

  test('also a run that cleans up after Ctrl-C claims the image anew, and removes its guests', async () => {
    const pve = new MemoryProxmox()
    const asked = request()
    const stop = new AbortController()
    {
      await using claim = await claimImage(pve.client(stop.signal), { ...asked, signal: stop.signal })
      pve.put(9000, {})
      pause('stopped', 600)
      pve.guests.delete(SLOT)
      stop.abort(new Error('Ctrl-C'))
      const cleaning = claim.guard(pve.client(stop.signal)).withSignal(new AbortController().signal)
      await cleaning.api.nodes.$('pve').qemu.$(9000).$delete()
      expect(runAt(pve, claim.vmid)).toBe('mine')
    }
    vi.restoreAllMocks()
    await expect.poll(() => [...pve.guests.keys()]).toEqual([])
    expect(asked.events).toMatchObject([{ type: 'warning', message: expect.stringContaining('was gone') }])
  })

  test('one that is just being claimed anew does not stay behind when it is released', async () => {
    const pve = new MemoryProxmox()
    const asked = request()
    const claim = await claimImage(pve.client(), asked)
    pve.guests.delete(SLOT)
    const go = Promise.withResolvers<undefined>()
    pve.work = (type) => (type === 'qmcreate' ? go.promise : Promise.resolve(undefined))
    const confirming = claim.confirm().catch(() => 'released')
    await expect.poll(() => pve.guests.get(SLOT)?.config.lock).toBe('create')
    const released = claim[Symbol.asyncDispose]()
    go.resolve(undefined)
    await released
    expect(await confirming).toBe('released')
    expect(pve.guests.size).toBe(0)
    expect(asked.events.filter(({ type }) => type === 'leak')).toEqual([])
  })
})

describe('after a pause of this process', () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  const write = (pve: Pve) => pve.api.nodes.$('pve').qemu.$(9000).config.$put({ name: 'x' })

  test('nothing is changed until the claim is seen to be this run’s', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, {})
    await using claim = await claimImage(pve.client(), request())
    const guarded = claim.guard(pve.client())
    await write(guarded)
    const calls = pve.writes.length
    pause('stopped', 600)
    await Promise.all([write(guarded), write(guarded)])
    await write(guarded)
    expect(pve.writes.slice(calls)).toEqual([
      `PUT /nodes/pve/qemu/${SLOT}/config`,
      ...Array(3).fill('PUT /nodes/pve/qemu/9000/config'),
    ])
  })

  test('what has lost its claim changes nothing any more, but may clean up', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, {})
    const stop = new AbortController()
    await using claim = await claimImage(pve.client(), request({ onLost: (why) => stop.abort(why) }))
    const building = claim.guard(pve.client(stop.signal))
    held(pve, { run: 'thief' })
    pause('suspended', 600)
    await expect(write(building)).rejects.toBeInstanceOf(ClaimLost)
    expect(pve.guests.get(9000)?.config.name).toBeUndefined()
    await write(building.withSignal(new AbortController().signal))
    expect(pve.guests.get(9000)?.config.name).toBe('x')
  })

  test('cleaning up that is the first to find the claim lost goes on', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, {})
    const asked = request()
    await using claim = await claimImage(pve.client(), asked)
    const cleaning = claim.guard(pve.client()).withSignal(new AbortController().signal)
    held(pve, { run: 'thief' })
    pause('stopped', 200)
    await write(cleaning)
    expect(asked.lost).toHaveLength(1)
    expect(pve.guests.get(9000)?.config.name).toBe('x')
  })

  test('what cannot be confirmed changes nothing', async () => {
    const pve = new MemoryProxmox()
    pve.put(9000, {})
    await using claim = await claimImage(pve.client(), request())
    const guarded = claim.guard(pve.client())
    pause('stopped', 600)
    pve.before = (call) => {
      if (call.includes(String(SLOT))) throw refused('GET', call, 'no quorum')
    }
    await expect(write(guarded)).rejects.toThrow('no quorum')
    pve.before = () => {}
    await write(guarded)
  })
})
