import { afterEach, describe, expect, test, vi } from 'vitest'
import type { SwapBy } from '../../src/build/fixed-vmid.ts'
import { fixedVmidOn, requireFixedVmid } from '../../src/build/fixed-vmid.ts'
import { removeLeftovers } from '../../src/build/leftovers.ts'
import { Overtaken } from '../../src/build/overtaken.ts'
import { swapPrivileges } from '../../src/build/privileges.ts'
import { prune } from '../../src/build/prune.ts'
import { finishSwaps, swap } from '../../src/build/swap.ts'
import { lockSwap } from '../../src/build/swap-lock.ts'
import { asImagebuildError } from '../../src/core/errors.ts'
import type { Event } from '../../src/core/events.ts'
import { ClaimLost, ClaimTaken } from '../../src/pve/claim-refused.ts'
import { fromTags, type Marks, parseNote, renderNote, toTags } from '../../src/pve/marks.ts'
import { promote } from '../../src/pve/promotion.ts'
import { select, type Template, templatesIn } from '../../src/pve/templates.ts'
import { pause } from '../core/paused.ts'
import { type Config, MemoryProxmox, PLACE, past, refused, SOMEBODY, soon } from '../pve/memory-proxmox.ts'
import { putTemplate } from '../pve/our-guest.ts'
import { aBuild, aClaim } from './world.ts'

const FIXED = 8000
const place = { ...PLACE, vmids: { ...PLACE.vmids, fixed: [FIXED] } }
const { signal } = new AbortController()
const [V0, V1, V2, V3] = ['20260101.1', '20260102.1', '20260103.1', '20260104.1'] as const

/** 8000 is current, 9001 proven; a user has made a full clone of 8000. */
function world(pve: MemoryProxmox, kind: 'vm' | 'lxc' = 'vm'): Template {
  putTemplate(pve, 9000, 'previous', V0, { turn: 1, kind })
  putTemplate(pve, FIXED, 'current', V1, { turn: 2, kind })
  const { template: _, ...config } = pve.guests.get(FIXED)?.config ?? {}
  pve.put(500, { ...config, name: 'theirs' }, { status: 'running', kind })
  return putTemplate(pve, 9001, 'candidate', V2, { verified: 'inside', kind })
}

function by(pve: MemoryProxmox, events: Event[] = []): SwapBy {
  const emit = (event: Event) => void events.push(event)
  return { pve: pve.client(), place, namespace: 'homelab', image: 'web', emit, signal }
}

const pruning = (pve: MemoryProxmox, events: Event[] = []) =>
  prune({ ...by(pve, events), keep: () => 3, dryRun: false, kept: false, tool: '0' })

const templates = (pve: MemoryProxmox) =>
  templatesIn(
    [...pve.guests].map(([vmid, { kind, node, config }]) => ({
      ...{ vmid, kind, node },
      tags: String(config.tags),
      ...(config.template !== undefined && { template: Boolean(config.template) }),
    })),
    'homelab',
  )
const resolved = (pve: MemoryProxmox, selector = 'current') => select(templates(pve), 'web', selector)
const marksOf = (pve: MemoryProxmox, vmid: number) =>
  fromTags(vmid, String(pve.guests.get(vmid)?.config.tags)) as Marks
const states = (pve: MemoryProxmox) =>
  Object.fromEntries(
    templates(pve)
      .sort((a, b) => a.vmid - b.vmid)
      .map(({ vmid, marks }) => [vmid, `${marks.state} ${marks.version}`]),
  )

test('a swap leaves an EFI disk as Proxmox has copied it, with the certificates that it names', async () => {
  const pve = new MemoryProxmox()
  const source = world(pve)
  const efidisk0 = 'local:9001/base-9001-disk-1.qcow2,efitype=4m,ms-cert=2023k,pre-enrolled-keys=1,size=528K'
  Object.assign(pve.guests.get(9001)?.config ?? {}, { bios: 'ovmf', efidisk0 })
  const written: string[] = []
  pve.before = (call, params) => {
    if (call.startsWith('PUT'))
      written.push(...Object.keys(params), ...String(params.delete ?? '').split(','))
  }
  await swap(by(pve), source, FIXED, { tool: 't', since: 2 })
  expect(pve.guests.get(FIXED)?.config.efidisk0).toBe(efidisk0)
  expect(written).toContain('tags')
  expect(written).not.toContain('efidisk0')
})

describe.each(['vm', 'lxc'] as const)('a swap (%s)', (kind) => {
  test('puts the proven one at the fixed VMID, and the old one into the range', async () => {
    const pve = new MemoryProxmox()
    const events: Event[] = []
    const { template, seconds } = await swap(by(pve, events), world(pve, kind), FIXED, {
      tool: 't',
      since: 2,
    })
    expect([template.vmid, template.marks.version]).toEqual([FIXED, V2])
    expect(states(pve)).toEqual({ 8000: `current ${V2}`, 9000: `retired ${V0}`, 9002: `previous ${V1}` })
    expect([...pve.guests.keys()].sort()).toEqual([500, 8000, 9000, 9002])
    expect(seconds).toBeGreaterThan(0)
    const window = events.find((event) => event.type === 'step.end' && event.step === 'swap')
    expect(window).toMatchObject({ ok: true, seconds: expect.any(Number) })

    const { config } = pve.guests.get(FIXED) ?? { config: {} as Config }
    expect(config).toMatchObject({ [kind === 'vm' ? 'name' : 'hostname']: `web-${V2}`, template: 1 })
    expect(String(config.net0)).toContain('BC:24:11:00:00:01')
    expect(pve.tagsOf(FIXED)).toEqual(
      expect.arrayContaining(['prod', 'ib-id-8000', 'ib-turn-3', 'ib-verified', 'ib-current']),
    )
    const text = String(config.description)
    expect(text.startsWith(`About ${V2}\n\n`)).toBe(true)
    expect(parseNote(FIXED, text)).toEqual({
      ...{ schema: 1, vmid: FIXED, namespace: 'homelab', image: 'web', kind, tool: '0', run: 'run-9001' },
      ...{ version: V2, previous: 9002, guest: expect.any(String) },
    })
    expect(parseNote(9002, String(pve.guests.get(9002)?.config.description))).toMatchObject({ version: V1 })
    expect(pve.tagsOf(9002).filter((tag) => /standin|swap/.test(tag))).toEqual([])
    expect(resolved(pve, 'previous')?.vmid).toBe(9002)
    expect(await pruning(pve)).toEqual([])
  })

  test('wherever it is killed, what resolves is proven, and prune leaves nothing of it', async () => {
    let ended = false
    let points = 0
    for (let n = 1; !ended; n += 1) {
      for (const when of ['before', 'after'] as const) {
        const pve = new MemoryProxmox()
        const source = world(pve, kind)
        const seen = new Set<string>()
        const kill = killedAt(pve, n, when, () => void seen.add(resolved(pve)?.marks.version ?? 'nothing'))
        const work = swap(by(pve), source, FIXED, { tool: 't', since: 2 }).then(() => true)
        ended = await Promise.race([work, kill.happened])
        await kill.bury()
        const at = `killed ${when} call ${n}: ${kill.call()}`
        const intended = marksOf(pve, 9001)?.swap !== undefined || marksOf(pve, FIXED)?.version === V2
        expect([V1, V2], at).toContain(resolved(pve)?.marks.version)
        watch(pve, () => void seen.add(resolved(pve)?.marks.version ?? 'nothing'))
        const events: Event[] = []
        await pruning(pve, events)
        expect(
          events.filter(({ type }) => type === 'leak'),
          at,
        ).toEqual([])
        expect(
          [...seen].filter((version) => version !== V1 && version !== V2),
          at,
        ).toEqual([])
        const there = states(pve)
        const [version, other] = Object.entries(there).filter(([, state]) => state.endsWith(V1))
        expect(other, at).toBeUndefined()
        if (intended) {
          expect(resolved(pve), at).toMatchObject({ vmid: FIXED, marks: { version: V2, turn: 3 } })
          expect(version?.[1], at).toBe(`previous ${V1}`)
          expect(pve.guests.size, at).toBe(4)
        } else {
          expect(there, at).toEqual({
            8000: `current ${V1}`,
            9000: `previous ${V0}`,
            9001: `candidate ${V2}`,
          })
          expect(pve.guests.size, at).toBe(4)
        }
        expect(
          [...pve.guests.values()].some(({ config }) =>
            /ib-(swap|standin|building|claim)/.test(String(config.tags)),
          ),
          at,
        ).toBe(false)
        expect(pve.guests.get(500)?.status, at).toBe('running')
        points += 1
      }
    }
    expect(points).toBeGreaterThan(60)
  })
})

test('a fault of the API at any call leaves what the next swap or prune finishes', async () => {
  let ended = false
  for (let n = 1; !ended; n += 1) {
    const pve = new MemoryProxmox()
    const source = world(pve)
    let calls = 0
    let call = ''
    pve.before = (what) => {
      calls += 1
      if (calls === n) {
        call = what
        throw refused('GET', 'x', 'got no answer', 596)
      }
      expect([V1, V2]).toContain(resolved(pve)?.marks.version)
    }
    await swap(by(pve), source, FIXED, { tool: 't', since: 2 }).catch(() => undefined)
    ended = call === ''
    pve.before = () => {}
    await bury(pve)
    await pruning(pve)
    const at = `at call ${n}: ${call}`
    const { marks } = resolved(pve) ?? {}
    expect([V1, V2], at).toContain(marks?.version)
    expect(resolved(pve)?.vmid, at).toBe(FIXED)
    expect(pve.guests.size, at).toBe(4)
  }
})

describe('while nothing is at the VMID', () => {
  const failing = (pve: MemoryProxmox, times: number) => {
    let left = times
    pve.work = async (type, vmid) => {
      if (type !== 'qmclone' || vmid !== FIXED || left === 0) return undefined
      left -= 1
      return 'clone failed: no space left on device'
    }
  }

  test('a copy that fails is tried again', async () => {
    const pve = new MemoryProxmox()
    const source = world(pve)
    const events: Event[] = []
    failing(pve, 1)
    const { seconds } = await swap(by(pve, events), source, FIXED, { tool: 't', since: 2 })
    expect(seconds).toBeGreaterThan(1)
    expect(events).toContainEqual(
      expect.objectContaining({
        type: 'warning',
        message: expect.stringMatching(/^VMID 8000 is still away/),
      }),
    )
    expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V2 } })
  })

  test('one that fails for good says what there is meanwhile, and prune goes on from there', async () => {
    const pve = new MemoryProxmox()
    const source = world(pve)
    failing(pve, 99)
    const error = asImagebuildError(
      await swap(by(pve), source, FIXED, { tool: 't', since: 2 }).catch((thrown) => thrown),
    )
    expect(error.next).toMatch(/nothing is at VMID 8000 .*prune.*gives 9002, a copy of the old one/s)
    expect(resolved(pve)).toMatchObject({ vmid: 9002, marks: { version: V1 } })
    pve.work = async () => undefined
    await pruning(pve)
    expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V2 } })
    expect(pve.guests.size).toBe(4)
  })

  test('somebody who takes the VMID is named, and the copy goes on standing in', async () => {
    const pve = new MemoryProxmox()
    const source = world(pve)
    pve.before = (call) => {
      if (call === 'POST /nodes/pve/qemu/9001/clone') pve.put(FIXED, { name: 'quick' })
    }
    await expect(swap(by(pve), source, FIXED, { tool: 't', since: 2 })).rejects.toThrow()
    pve.before = () => {}
    expect(pve.guests.get(FIXED)?.config).toEqual({ name: 'quick' })
    expect(resolved(pve)?.marks).toMatchObject({ version: V1, standin: true })
    const events: Event[] = []
    await pruning(pve, events)
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'leak', why: expect.stringContaining('VM 8000 (quick)') }),
    )
    expect(resolved(pve)?.marks.version).toBe(V1)
  })

  test('Ctrl-C waits until it is over', async () => {
    const pve = new MemoryProxmox()
    const source = world(pve)
    const stop = new AbortController()
    pve.before = (call) => {
      if (call === `DELETE /nodes/pve/qemu/${FIXED}`) stop.abort(new Error('interrupted'))
    }
    await swap({ ...by(pve), signal: stop.signal }, source, FIXED, { tool: 't', since: 2 })
    expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V2 } })
    expect(pve.guests.size).toBe(4)
  })
})

describe('before anything is done', () => {
  test('linked clones are named, also such as come while the copy is made: then all is as before', async () => {
    const pve = new MemoryProxmox()
    const source = world(pve)
    const clone = () =>
      pve.put(130, {
        name: 'shop',
        scsi0: `local:${FIXED}/base-${FIXED}-disk-0.qcow2/130/vm-130-disk-0.qcow2`,
      })
    clone()
    const error = await requireFixedVmid(by(pve), FIXED).catch(asImagebuildError)
    expect(error).toMatchObject({ code: 'build_failed', what: expect.stringContaining('VM 130 (shop)') })
    pve.guests.delete(130)
    const before = structuredClone(states(pve))
    pve.after = (call) => {
      if (call.includes(`${FIXED}/clone`)) clone()
    }
    await expect(swap(by(pve), source, FIXED, { tool: 't', since: 2 })).rejects.toThrow(/VM 130 \(shop\)/)
    pve.after = () => {}
    expect(states(pve)).toEqual(before)
    expect(marksOf(pve, 9001)).toEqual({ ...source.marks })
    // They are gone: the candidate, which has waited, goes on.
    pve.guests.delete(130)
    await swap(by(pve), source, FIXED, { tool: 't', since: 2 })
    expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V2 } })
  })

  test('linked clones that these credentials may not see: Proxmox refuses, and all is as before', async () => {
    const pve = new MemoryProxmox()
    const source = world(pve)
    pve.put(130, { scsi0: `local:${FIXED}/base-${FIXED}-disk-0.qcow2/130/vm-130-disk-0.qcow2` })
    pve.before = (call) => {
      if (/storage\/local\/content/.test(call)) throw refused('GET', 'x', 'Permission check failed', 403)
    }
    const before = structuredClone(states(pve))
    await expect(swap(by(pve), source, FIXED, { tool: 't', since: 2 })).rejects.toThrow(/may not see/)
    expect(states(pve)).toEqual(before)
  })

  test.each([
    ['a guest of somebody’s', { name: 'prod-db' }, 'vm' as const, /VM 8000 \(prod-db\) on pve/],
    ['a container', { hostname: 'x', name: 'ct' }, 'lxc' as const, /CT 8000 \(ct\) on pve/],
    [
      'a template of another image',
      { name: 'db-1', template: 1, tags: 'ib-id-8000;ib-ns-homelab;ib-image-db;ib-current' },
      'vm' as const,
      /VM 8000 \(db-1\)/,
    ],
  ])('%s at the VMID is named, and left alone', async (_what, config, kind, expected) => {
    const pve = new MemoryProxmox()
    const source = putTemplate(pve, 9001, 'candidate', V2)
    pve.put(FIXED, config as Config, { kind })
    const error = asImagebuildError(await requireFixedVmid(by(pve), FIXED).catch((thrown) => thrown))
    expect(error).toMatchObject({ code: 'build_failed', why: expect.stringMatching(expected) })
    await expect(swap(by(pve), source, FIXED, { tool: 't', since: 0 })).rejects.toThrow()
    expect(pve.guests.get(FIXED)?.config).toEqual(config)
    expect(marksOf(pve, 9001).swap).toBeUndefined()
  })

  test('one on another node, one that cannot be seen, and a protected template', async () => {
    const pve = new MemoryProxmox()
    pve.put(FIXED, { name: 'far' }, { node: 'pve2' })
    await expect(requireFixedVmid(by(pve), FIXED)).rejects.toThrow(/is taken/)
    const hidden = new MemoryProxmox()
    hidden.put(FIXED, { name: 'hidden' })
    const client = hidden.client()
    const there = hidden.guests.get(FIXED)
    hidden.before = (call) =>
      void (/nextid/.test(call) ? hidden.guests.set(FIXED, there as never) : hidden.guests.delete(FIXED))
    await expect(requireFixedVmid({ ...by(hidden), pve: client }, FIXED)).rejects.toThrow(/is taken/)
    const protectedOne = new MemoryProxmox()
    putTemplate(protectedOne, FIXED, 'current', V1, { config: { protection: 1 } })
    await expect(requireFixedVmid(by(protectedOne), FIXED)).rejects.toThrow(/is protected/)
  })
})

describe('what is current', () => {
  test('moves to a VMID that its definition fixes later: no stand-in, no window, the same turn', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'previous', V0, { turn: 1 })
    const source = putTemplate(pve, 9001, 'current', V1, { turn: 2, held: true })
    const { template, seconds } = await swap(by(pve), source, FIXED, { tool: 't' })
    expect([template.vmid, seconds]).toEqual([FIXED, undefined])
    expect(states(pve)).toEqual({ 8000: `current ${V1}`, 9000: `previous ${V0}` })
    expect(marksOf(pve, FIXED)).toMatchObject({ turn: 2, held: true })
  })

  test('stays in the range too, where it has linked clones there or is protected', async () => {
    for (const config of [{ protection: 1 }, {}] as Config[]) {
      const pve = new MemoryProxmox()
      const source = putTemplate(pve, 9001, 'current', V1, { turn: 2, config })
      if (!config.protection)
        pve.put(130, { scsi0: 'local:9001/base-9001-disk-0.qcow2/130/vm-130-disk-0.qcow2' })
      await swap(by(pve), source, FIXED, { tool: 't' })
      expect(states(pve)).toEqual({ 8000: `current ${V1}`, 9001: `retired ${V1}` })
      expect(pve.guests.get(FIXED)?.config.protection ?? false).toBe(false)
      expect(marksOf(pve, 9001).swap).toBeUndefined()
    }
  })

  test('a rollback swaps too, is held, and can be undone', async () => {
    const pve = new MemoryProxmox()
    await swap(by(pve), world(pve), FIXED, { tool: 't', since: 2 })
    const before = resolved(pve, 'previous') as Template
    await swap(by(pve), before, FIXED, { tool: 't', held: true })
    expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V1, held: true, turn: 4 } })
    const undo = resolved(pve, 'previous') as Template
    expect(undo.marks.version).toBe(V2)
    await swap(by(pve), undo, FIXED, { tool: 't', held: false })
    expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V2, turn: 5 } })
    expect(resolved(pve)?.marks.held).toBeUndefined()
    expect([...Object.values(states(pve))].sort()).toEqual([
      `current ${V2}`,
      `previous ${V1}`,
      `retired ${V0}`,
    ])
  })

  test('one that somebody is removing is refused, before anything is done', async () => {
    const pve = new MemoryProxmox()
    world(pve)
    const old = putTemplate(pve, 9000, 'previous', V0, { turn: 1, expires: past() })
    await expect(swap(by(pve), old, FIXED, { tool: 't', held: true })).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('is being removed'),
    })
    expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V1 } })
    expect(marksOf(pve, 9000).swap).toBeUndefined()
  })

  test('a rollback while a build was under way is not undone by its swap', async () => {
    const pve = new MemoryProxmox()
    const source = world(pve)
    await swap(by(pve), templates(pve).find(({ vmid }) => vmid === 9000) as Template, FIXED, {
      tool: 't',
      held: true,
    })
    const { yieldedTo } = await swap(by(pve), source, FIXED, { tool: 't', since: 2 })
    expect(yieldedTo?.marks.version).toBe(V0)
    expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V0, held: true } })
    expect(marksOf(pve, 9001).state).toBe('retired')
  })
})

test('a lock whose holder was killed once all was done goes with the next run; a living one stays', async () => {
  const pve = new MemoryProxmox()
  world(pve)
  const lock = { vmid: 9905, namespace: 'homelab', image: 'web.pve' } as const
  const leave = (expires: number) =>
    pve.put(9905, {
      tags: toTags({ ...lock, state: 'claim', expires }),
      description: renderNote({ schema: 1, ...lock, kind: 'vm', tool: '0', run: 'r', expires }),
    })
  leave(soon())
  expect(await finishSwaps(by(pve), { tool: '0', wait: false })).toEqual({ finished: 0 })
  expect(pve.guests.has(9905)).toBe(true)
  leave(past())
  expect(await finishSwaps(by(pve), { tool: '0', wait: false })).toEqual({ finished: 0 })
  expect([...pve.guests.keys()].sort((a, b) => a - b)).toEqual([500, FIXED, 9000, 9001])
})

test('a lock is seen also on a node whose name has capitals', async () => {
  const pve = new MemoryProxmox()
  const there = { ...by(pve), place: { ...place, node: 'PVE1' } }
  await using _lock = await lockSwap(there, { tool: '0', wait: false })
  await expect(lockSwap(there, { tool: '0', wait: false })).rejects.toMatchObject({ code: 'busy' })
})

test('a rollback drops what was cut off before its window', async () => {
  const pve = new MemoryProxmox()
  const source = world(pve)
  const kill = killedAt(pve, 1, 'before', () => {}, /POST .*\/template/)
  await Promise.race([swap(by(pve), source, FIXED, { tool: 't', since: 2 }), kill.happened])
  await kill.bury()
  expect(marksOf(pve, 9001).swap).toBe(FIXED)
  const old = templates(pve).find(({ vmid }) => vmid === 9000) as Template
  await swap(by(pve), old, FIXED, { tool: 't', held: true })
  expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V0, held: true } })
  expect(marksOf(pve, 9001)).toEqual(source.marks)
  expect(pve.guests.size).toBe(4)
})

test('prune does not finish a swap that would replace a newer version by an older one', async () => {
  const pve = new MemoryProxmox()
  const source = world(pve)
  const kill = killedAt(pve, 1, 'before', () => {}, /POST .*9001\/clone/)
  await Promise.race([swap(by(pve), source, FIXED, { tool: 't', since: 2 }), kill.happened])
  await kill.bury()
  expect(pve.guests.has(FIXED)).toBe(false)
  // The definition has no fixed VMID any more, and the next version was built in the range.
  const next = putTemplate(pve, 9005, 'candidate', V3, { verified: 'inside' })
  await promote(pve.client(), next, { since: 2 })
  await pruning(pve)
  expect(resolved(pve)).toMatchObject({ vmid: 9005, marks: { version: V3 } })
  expect(resolved(pve, 'previous')?.marks.version).toBe(V1)
  expect(
    [...pve.guests.values()].filter(({ config }) => /ib-(swap|standin)/.test(String(config.tags))),
  ).toEqual([])
  expect(await pruning(pve)).toEqual([])
})

test('two at once: one after the other, and nothing is lost', async () => {
  const pve = new MemoryProxmox()
  const source = world(pve)
  const old = templates(pve).find(({ vmid }) => vmid === 9000) as Template
  await Promise.all([
    swap(by(pve), source, FIXED, { tool: 't', since: 2 }),
    swap(by(pve), old, FIXED, { tool: 't', held: true }),
  ])
  expect([...Object.values(states(pve))].map((text) => text.split(' ')[1]).sort()).toEqual([V0, V1, V2])
  expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V0, held: true } })
})

test('what a token needs is asked of /vms or the pool: rights on the VMID alone would go with its guest', () => {
  const paths = (more: Partial<typeof place>) => swapPrivileges({ ...place, ...more }).map(({ path }) => path)
  const bridge = '/sdn/zones/localnetwork/vmbr0'
  expect(paths({})).toEqual(['/vms', '/storage/local-lvm', bridge])
  expect(paths({ pool: 'golden', vlan: 7 })).toEqual([
    ['/vms', '/pool/golden'],
    '/storage/local-lvm',
    [`${bridge}/7`, bridge],
    '/pool/golden',
  ])
  expect(swapPrivileges(place)[0]?.privileges).toEqual(
    expect.arrayContaining(['VM.Allocate', 'VM.Clone', 'VM.Config.Network', 'VM.Config.Options']),
  )
})

test('which VMID is fixed on a node', () => {
  const on = (vmid: Parameters<typeof fixedVmidOn>[0]['vmid'], node: string, nodes = [node]) =>
    fixedVmidOn({ name: 'web', vmid }, node, nodes)
  expect([on(undefined, 'a'), on(9000, 'a'), on({ a: 1, b: 2 }, 'b', ['a', 'b']), on({ a: 1 }, 'b')]).toEqual(
    [undefined, 9000, 2, undefined],
  )
  expect(() => on(9000, 'a', ['a', 'b'])).toThrow(/the target has 2 nodes/)
})

/** From a call on, this process does nothing any more: it neither goes on nor cleans up. */
function killedAt(
  pve: MemoryProxmox,
  n: number,
  when: 'before' | 'after',
  look: () => void,
  pattern = /./,
): { happened: Promise<false>; call: () => string; bury: () => Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<false>()
  let calls = 0
  let killed = ''
  let buried = false
  const at = (now: 'before' | 'after') => async (call: string) => {
    look()
    if (now === when && pattern.test(call)) calls += 1
    if (killed === '' && (now !== when || calls !== n)) return
    killed ||= call
    resolve(false)
    if (!buried) await new Promise(() => {})
  }
  pve.before = at('before')
  pve.after = at('after')
  const done = async () => {
    buried = true
    pve.before = () => {}
    pve.after = () => {}
    await bury(pve)
  }
  return { happened: promise, call: () => killed, bury: done }
}

function watch(pve: MemoryProxmox, look: () => void): void {
  pve.before = look
  pve.after = look
}

/** What Proxmox was ordered to do is done; the claims of the dead, who were no part of this process, are over. */
async function bury(pve: MemoryProxmox): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
  for (const [vmid, { config }] of pve.guests) {
    const note = parseNote(vmid, String(config.description))
    if (fromTags(vmid, String(config.tags))?.state !== 'claim' || note === undefined) continue
    config.description = renderNote({ ...note, owner: SOMEBODY, expires: past() })
  }
}

test('a copy at the fixed VMID that is about to count is a swap’s, and no candidate that a run removes', async () => {
  const pve = new MemoryProxmox()
  world(pve)
  const oldest = templates(pve).find(({ vmid }) => vmid === 9000) as Template
  const stayed: boolean[] = []
  pve.after = async (call) => {
    const isCopied = /ib-candidate/.test(String(pve.guests.get(FIXED)?.config.tags))
    if (stayed.length > 0 || call !== `PUT /nodes/pve/qemu/${FIXED}/config` || !isCopied) return
    await removeLeftovers(aBuild({ place }, pve), aClaim(), 'sha256:new')
    stayed.push(pve.guests.has(FIXED))
  }
  await swap(by(pve), oldest, FIXED, { tool: '0', held: true })
  expect(stayed).toEqual([true])
  expect(marksOf(pve, FIXED)).toMatchObject({ version: V0, state: 'current', held: true })
  expect(marksOf(pve, FIXED).swap).toBeUndefined()
})

describe('a swap whose lock another run takes over', () => {
  /** The claim of swaps on this node. */
  const steal = (pve: MemoryProxmox) => {
    for (const [vmid, { config }] of pve.guests) {
      const note = parseNote(vmid, String(config.description))
      if (fromTags(vmid, String(config.tags))?.state !== 'claim' || note === undefined) continue
      config.description = renderNote({ ...note, run: 'thief', owner: SOMEBODY, expires: soon() })
    }
  }

  test.each([
    ['while the stand-in is made', /^POST .*\/8000\/clone$/, [500, 8000, 9000, 9001]],
    ['while nothing is at the VMID', /^DELETE .*\/8000$/, [500, 9000, 9001, 9002]],
  ])('%s does nothing more', async (_when, call, there) => {
    const pve = new MemoryProxmox()
    const source = world(pve)
    pve.after = (made) => {
      if (!call.test(made)) return
      pve.after = () => {}
      pause('stopped', 600)
      steal(pve)
    }
    const events: Event[] = []
    const error = await swap(by(pve, events), source, FIXED, { tool: 't', since: 2 }).catch((error) => error)
    vi.restoreAllMocks()
    expect(JSON.stringify(events)).not.toContain('trying again')
    expect(error).toMatchObject({ code: 'busy', exitCode: 75 })
    const left = [...pve.guests.keys()].filter((vmid) => vmid < 9900).sort((a, b) => a - b)
    expect(left).toEqual(there)
    expect(marksOf(pve, 9001)).toMatchObject({ state: 'candidate', swap: FIXED })
    // Whoever has it now finishes it.
    for (const vmid of pve.guests.keys()) if (vmid >= 9900) pve.guests.delete(vmid)
    await pruning(pve)
    expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V2 } })
  })

  test('is not begun, and not left for others to finish, where its build has lost the image', async () => {
    const pve = new MemoryProxmox()
    const source = world(pve)
    const stop = new AbortController()
    const lost = new ClaimLost('web', 600, new ClaimTaken('web', undefined))
    const claim = aClaim({
      confirm: async () => {
        stop.abort(lost)
        throw lost
      },
    })
    const build = { ...by(pve), signal: stop.signal, pve: pve.client(stop.signal), claim }
    await expect(swap(build, source, FIXED, { tool: 't', since: 2 })).rejects.toBe(lost)
    expect(states(pve)).toEqual({ 8000: `current ${V1}`, 9000: `previous ${V0}`, 9001: `candidate ${V2}` })
    expect(marksOf(pve, 9001).swap).toBeUndefined()
    expect(pve.guests.size).toBe(4)
  })
})

describe('a swap during which another one of the image comes to the fixed VMID', () => {
  const theirs = (pve: MemoryProxmox) => putTemplate(pve, FIXED, 'current', V3, { turn: 3 })
  /** This run stands still; another one takes the lock, swaps in its own, and gives the lock back. */
  const wakeUp = (pve: MemoryProxmox) => {
    for (const vmid of pve.guests.keys()) if (vmid >= 9900) pve.guests.delete(vmid)
    theirs(pve)
    pause('stopped', 600)
  }
  afterEach(() => {
    vi.restoreAllMocks()
  })

  test.each(['before the lock is confirmed for the last time', 'directly before the removal'])(
    '%s: that one stays, and nothing is left of the swap',
    async (when) => {
      const pve = new MemoryProxmox()
      const source = world(pve)
      const isLate = when.startsWith('directly')
      const emit = (event: Event) => {
        if (isLate && event.type === 'step.start' && event.step === 'swap') wakeUp(pve)
      }
      const claim = aClaim({
        confirm: async () => {
          if (!isLate) wakeUp(pve)
        },
      })
      const asked = { ...by(pve), emit, claim }
      const error = await swap(asked, source, FIXED, { tool: 't', since: 2 }).catch((error) => error)
      expect(error).toBeInstanceOf(Overtaken)
      expect(error).toMatchObject({ code: 'busy', by: { vmid: FIXED, marks: { version: V3 } } })
      expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V3 } })
      expect(marksOf(pve, 9001)).toEqual(source.marks)
      expect(pve.writes.filter((call) => call === `DELETE /nodes/pve/qemu/${FIXED}`)).toEqual([])
      // The copy of the old one, which is nowhere else any more, is an old version like others.
      expect(states(pve)[9002]).toContain(V1)
      expect(pve.tagsOf(9002).filter((tag) => /standin|swap/.test(tag))).toEqual([])
    },
  )

  test('and its lock was never gone: it is not removed all the same', async () => {
    const pve = new MemoryProxmox()
    const source = world(pve)
    const emit = (event: Event) => {
      if (event.type === 'step.start' && event.step === 'swap') theirs(pve)
    }
    const error = await swap({ ...by(pve), emit }, source, FIXED, { tool: 't', since: 2 }).catch((it) => it)
    expect(error).toMatchObject({ code: 'busy', message: expect.stringContaining('is not version') })
    expect(marksOf(pve, FIXED).version).toBe(V3)
  })

  test('as a first version, while this one is copied there: it stays', async () => {
    const pve = new MemoryProxmox()
    const source = putTemplate(pve, 9001, 'candidate', V2, { verified: 'inside' })
    pve.before = (call) => {
      if (call !== 'POST /nodes/pve/qemu/9001/clone') return
      pve.before = () => {}
      wakeUp(pve)
    }
    const error = await swap(by(pve), source, FIXED, { tool: 't', since: 2 }).catch((error) => error)
    expect(error).toBeInstanceOf(Overtaken)
    expect(resolved(pve)).toMatchObject({ vmid: FIXED, marks: { version: V3 } })
    expect(marksOf(pve, 9001)).toEqual(source.marks)
  })
})

test('what only moves, because it was current, stays where somebody has rolled back meanwhile', async () => {
  const pve = new MemoryProxmox()
  putTemplate(pve, 9000, 'previous', V0, { turn: 1 })
  const seen = putTemplate(pve, 9001, 'current', V1, { turn: 2 })
  const older = templates(pve).find(({ vmid }) => vmid === 9000) as Template
  await promote(pve.client(), older, { held: true })
  expect((await swap(by(pve), seen, FIXED, { tool: '0' })).template.vmid).toBe(9000)
  expect(states(pve)).toEqual({ 9000: `current ${V0}`, 9001: `previous ${V1}` })
})
