import { describe, expect, test } from 'vitest'
import { PveError } from '../../src/pve/errors.ts'
import { fromTags, type Marks, parseNote, type State } from '../../src/pve/marks.ts'
import { halfSwitched, promote, rollbackVersion, tidy, untidy } from '../../src/pve/promotion.ts'
import { nodeTemplates, select, type Template } from '../../src/pve/templates.ts'
import { MemoryProxmox, refused } from './memory-proxmox.ts'
import { putTemplate } from './our-guest.ts'

describe('promoting', () => {
  const states = (pve: MemoryProxmox) =>
    Object.fromEntries(
      [...pve.guests].map(([vmid, { config }]) => [vmid, fromTags(vmid, String(config.tags))?.state]),
    )

  test('the new one is current, what was current previous, what was previous retired', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'retired', '20260101.1')
    putTemplate(pve, 9001, 'previous', '20260102.1')
    putTemplate(pve, 9002, 'current', '20260103.1')
    const candidate = putTemplate(pve, 9003, 'candidate', '20260104.1')
    await promote(pve.client(), candidate)
    expect(states(pve)).toEqual({ 9000: 'retired', 9001: 'retired', 9002: 'previous', 9003: 'current' })
  })

  test.each(['before', 'after'] as const)(
    'a write whose answer is lost, %s it was done, is made sure of',
    async (when) => {
      const pve = new MemoryProxmox()
      putTemplate(pve, 9002, 'current', '20260103.1')
      const candidate = putTemplate(pve, 9003, 'candidate', '20260104.1')
      const lost = { before: 0, after: 0 }
      pve[when] = (call) => {
        if (!call.startsWith('PUT') || lost[when]++ > 0) return
        throw new PveError({ method: 'PUT', path: call, delivery: 'unknown', message: 'gone', passing: true })
      }
      await promote(pve.client(), candidate)
      expect(states(pve)).toEqual({ 9002: 'previous', 9003: 'current' })
      expect(fromTags(9003, String(pve.guests.get(9003)?.config.tags))?.turn).toBe(1)
      expect(pve.writes.filter((call) => call.includes('9003'))).toHaveLength(2)
    },
  )

  test('at no moment there is no current one', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9001, 'previous', '20260102.1')
    putTemplate(pve, 9002, 'current', '20260103.1')
    const candidate = putTemplate(pve, 9003, 'candidate', '20260104.1')
    const seen: (number | undefined)[] = []
    pve.after = async (call) => {
      if (!call.startsWith('PUT')) return
      pve.after = async () => {}
      const templates = await nodeTemplates(pve.client(), 'pve', 'homelab')
      seen.push(select(templates, 'web')?.vmid)
      pve.after = watch
    }
    const watch = pve.after
    await promote(pve.client(), candidate)
    expect(seen).toEqual([9003, 9003, 9003])
  })

  test('the note remembers what was current; the text above it and other people’s tags stay', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9002, 'current', '20260103.1')
    await promote(
      pve.client(),
      putTemplate(pve, 9003, 'candidate', '20260104.1', { digest: 'abcdef0123456789' }),
    )
    const config = pve.guests.get(9003)?.config
    const description = String(config?.description)
    expect(parseNote(9003, description)).toMatchObject({ previous: 9002, version: '20260104.1' })
    expect(description.startsWith('About 20260104.1\n\n```imagebuild\n')).toBe(true)
    expect(String(config?.tags).split(';')).toContain('prod')
    expect(fromTags(9003, String(config?.tags))).toMatchObject({
      version: '20260104.1',
      digest: 'abcdef0123456789',
    })
    expect(pve.tagsOf(9002)).toContain('prod')
  })

  test('the first one of an image, and nothing of other images, is touched', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9001, 'current', '20260102.1', { image: 'db' })
    putTemplate(pve, 9002, 'current', '20260102.1', { namespace: 'other' })
    const before = structuredClone([pve.guests.get(9001), pve.guests.get(9002)])
    await promote(pve.client(), putTemplate(pve, 9003, 'candidate', '20260104.1'))
    expect(states(pve)).toMatchObject({ 9003: 'current' })
    expect([pve.guests.get(9001), pve.guests.get(9002)]).toEqual(before)
    expect(parseNote(9003, String(pve.guests.get(9003)?.config.description))?.previous).toBeUndefined()
  })

  test('is no longer held back by a rollback', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9002, 'current', '20260103.1', { held: true })
    await promote(pve.client(), putTemplate(pve, 9003, 'candidate', '20260104.1'))
    expect(pve.tagsOf(9002)).not.toContain('ib-held')
    expect(pve.tagsOf(9003)).not.toContain('ib-held')
  })

  test('settles what an interrupted promotion has left: two current ones', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9001, 'current', '20260102.1')
    putTemplate(pve, 9002, 'current', '20260103.1')
    await promote(pve.client(), putTemplate(pve, 9003, 'candidate', '20260104.1'))
    expect(states(pve)).toEqual({ 9001: 'retired', 9002: 'previous', 9003: 'current' })
  })

  test('marks nothing that somebody else changed between reading and writing', async () => {
    const pve = new MemoryProxmox()
    const candidate = putTemplate(pve, 9003, 'candidate', '20260104.1')
    pve.before = (call) => {
      const guest = pve.guests.get(9003)
      if (call.startsWith('PUT') && guest) guest.config.tags = `${guest.config.tags};theirs`
    }
    await expect(promote(pve.client(), candidate)).rejects.toMatchObject({ code: 'busy' })
    expect(states(pve)).toEqual({ 9003: 'candidate' })
  })

  test('stops where Proxmox refuses, with the old one still there', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9002, 'current', '20260103.1')
    const candidate = putTemplate(pve, 9003, 'candidate', '20260104.1')
    pve.before = (call) => {
      if (call === 'PUT /nodes/pve/qemu/9003/config')
        throw refused('PUT', 'x', 'Permission check failed', 403)
    }
    await expect(promote(pve.client(), candidate)).rejects.toMatchObject({ code: 'permission_denied' })
    expect(states(pve)).toEqual({ 9002: 'current', 9003: 'candidate' })
  })
})

describe('turns', () => {
  const turns = (pve: MemoryProxmox) =>
    Object.fromEntries(
      [...pve.guests].map(([vmid, { config }]) => {
        const { state, turn, held } = fromTags(vmid, String(config.tags)) ?? {}
        return [vmid, [state, turn, ...(held ? ['held'] : [])].join(' ')]
      }),
    )
  const current = async (pve: MemoryProxmox, selector = 'current') =>
    select(await nodeTemplates(pve.client(), 'pve', 'homelab'), 'web', selector)?.vmid

  test('one more than the highest of the image, whose other templates have none or some', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9001, 'previous', '20260102.1', { turn: 7 })
    putTemplate(pve, 9002, 'current', '20260103.1')
    putTemplate(pve, 9003, 'current', '20260103.1', { image: 'db', turn: 40 })
    await promote(pve.client(), putTemplate(pve, 9004, 'candidate', '20260104.1'))
    expect(pve.tagsOf(9004)).toContain('ib-turn-8')
  })

  test('are the same for one version on several nodes', async () => {
    const pve = new MemoryProxmox()
    const far = putTemplate(pve, 9001, 'candidate', '20260102.1')
    const there = pve.guests.get(9001)
    if (there) there.node = 'pve2'
    putTemplate(pve, 9000, 'current', '20260101.1', { turn: 1 })
    await promote(pve.client(), putTemplate(pve, 9002, 'candidate', '20260102.1'), { since: 1 })
    await promote(pve.client(), { ...far, node: 'pve2' }, { since: 1 })
    expect([pve.tagsOf(9001), pve.tagsOf(9002)]).toEqual([
      expect.arrayContaining(['ib-turn-2', 'ib-current']),
      expect.arrayContaining(['ib-turn-2', 'ib-current']),
    ])
  })

  test('cut off after its first write, a promotion has happened; tidying makes the marks say so', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'previous', '20260101.1', { turn: 1 })
    putTemplate(pve, 9001, 'current', '20260102.1', { turn: 2 })
    const candidate = putTemplate(pve, 9002, 'candidate', '20260103.1')
    pve.before = (call) => {
      if (call.startsWith('PUT') && !call.includes('/9002/')) throw refused('PUT', 'x', 'killed')
    }
    expect((await promote(pve.client(), candidate, { since: 2 })).untidy).toHaveLength(2)
    expect(turns(pve)).toEqual({ 9000: 'previous 1', 9001: 'current 2', 9002: 'current 3' })
    expect([await current(pve), await current(pve, 'previous')]).toEqual([9002, 9001])
    pve.before = () => {}
    const templates = await nodeTemplates(pve.client(), 'pve', 'homelab')
    expect(await tidy(pve.client(), templates)).toEqual([])
    expect(turns(pve)).toEqual({ 9000: 'retired 1', 9001: 'previous 2', 9002: 'current 3' })
    expect(untidy(await nodeTemplates(pve.client(), 'pve', 'homelab'))).toEqual([])
  })

  test('tidying by what was seen earlier takes nothing from what was promoted since', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9001, 'current', '20260102.1', { turn: 2 })
    putTemplate(pve, 9002, 'current', '20260103.1', { turn: 3 })
    const seen = await nodeTemplates(pve.client(), 'pve', 'homelab')
    const older = seen.find(({ vmid }) => vmid === 9001) as Template
    await promote(pve.client(), older, { held: true })
    await tidy(pve.client(), seen)
    expect(turns(pve)).toEqual({ 9001: 'current 4 held', 9002: 'previous 3' })
  })

  test('tidying does not mind what somebody has removed since it was seen', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'previous', '20260101.1', { turn: 1 })
    putTemplate(pve, 9001, 'current', '20260102.1', { turn: 2 })
    putTemplate(pve, 9002, 'current', '20260103.1', { turn: 3 })
    const seen = await nodeTemplates(pve.client(), 'pve', 'homelab')
    pve.guests.delete(9000)
    expect(await tidy(pve.client(), seen)).toEqual([])
    expect(turns(pve)).toEqual({ 9001: 'previous 2', 9002: 'current 3' })
  })

  test('a build does not undo a rollback that happened while it worked', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'retired', '20260101.1', { turn: 1 })
    const back = putTemplate(pve, 9001, 'previous', '20260102.1', { turn: 2 })
    putTemplate(pve, 9002, 'current', '20260103.1', { turn: 3 })
    await promote(pve.client(), back, { held: true })
    const candidate = putTemplate(pve, 9003, 'candidate', '20260104.1', { verified: 'inside' })
    const { yieldedTo } = await promote(pve.client(), candidate, { since: 3 })
    expect(yieldedTo?.vmid).toBe(9001)
    expect(turns(pve)).toMatchObject({ 9001: 'current 4 held', 9002: 'previous 3', 9003: 'retired ' })
    // But one that began after it, because somebody forced it, ends the hold.
    await promote(pve.client(), candidate, { since: 4 })
    expect(turns(pve)).toMatchObject({ 9001: 'previous 4', 9003: 'current 5' })
  })

  test.each(['before', 'after'] as const)(
    'nor one that comes in the moment %s its own write',
    async (when) => {
      const pve = new MemoryProxmox()
      const back = putTemplate(pve, 9001, 'previous', '20260102.1', { turn: 2 })
      putTemplate(pve, 9002, 'current', '20260103.1', { turn: 3 })
      const candidate = putTemplate(pve, 9003, 'candidate', '20260104.1')
      const meanwhile = async (call: string) => {
        if (call !== 'PUT /nodes/pve/qemu/9003/config') return
        pve.before = () => {}
        pve.after = () => {}
        await promote(pve.client(), back, { held: true })
      }
      pve[when] = meanwhile
      await promote(pve.client(), candidate, { since: 3 })
      expect(await current(pve)).toBe(9001)
      expect(turns(pve)[9003]).toMatch(/^(retired|previous)/)
      expect(pve.tagsOf(9001)).toContain('ib-held')
    },
  )

  test('of two people who promote at once, one wins, and both know what is current', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'current', '20260103.1', { turn: 3 })
    const one = putTemplate(pve, 9001, 'retired', '20260101.1', { turn: 1 })
    const other = putTemplate(pve, 9002, 'previous', '20260102.1', { turn: 2 })
    await Promise.all([promote(pve.client(), one), promote(pve.client(), other)])
    const templates = await nodeTemplates(pve.client(), 'pve', 'homelab')
    await tidy(pve.client(), templates)
    const states = Object.values(turns(pve)).filter((text) => text.startsWith('current'))
    expect(states).toHaveLength(1)
    expect([9001, 9002]).toContain(await current(pve))
  })

  test('a write that somebody else was faster with is made anew, upon what they wrote', async () => {
    const pve = new MemoryProxmox()
    const candidate = putTemplate(pve, 9003, 'candidate', '20260104.1')
    let times = 3
    pve.before = (call) => {
      const guest = pve.guests.get(9003)
      if (call.startsWith('PUT') && guest && times-- > 0) guest.config.tags = `${guest.config.tags};t${times}`
    }
    await promote(pve.client(), candidate)
    expect(pve.tagsOf(9003)).toEqual(expect.arrayContaining(['ib-current', 'prod', 't0', 't1', 't2']))
  })

  test('a VMID that is somebody else’s by now is not written to', async () => {
    const pve = new MemoryProxmox()
    const candidate = putTemplate(pve, 9003, 'candidate', '20260104.1')
    pve.put(9003, { name: 'theirs', tags: 'prod' })
    await expect(promote(pve.client(), candidate)).rejects.toMatchObject({ code: 'not_found' })
    expect(pve.guests.get(9003)?.config).toEqual({ name: 'theirs', tags: 'prod' })
  })

  test('one that is being removed cannot be promoted', async () => {
    const pve = new MemoryProxmox()
    const old = putTemplate(pve, 9001, 'retired', '20260101.1', { turn: 1, expires: 1 })
    // Seen as a candidate, a moment before somebody said that it goes.
    const candidate = putTemplate(pve, 9002, 'candidate', '20260102.1', { verified: 'inside' })
    putTemplate(pve, 9002, 'building', '20260102.1', { verified: 'inside' })
    for (const one of [old, candidate])
      await expect(promote(pve.client(), one)).rejects.toMatchObject({
        code: 'not_found',
        message: expect.stringContaining('is being removed'),
      })
    expect(pve.writes).toEqual([])
  })

  test('a stand-in stays current until its template has another turn', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'current', '20260101.1', { turn: 1 })
    putTemplate(pve, 9050, 'current', '20260101.1', { turn: 1, standin: true })
    const both = await nodeTemplates(pve.client(), 'pve', 'homelab')
    expect(select(both, 'web')?.vmid).toBe(9000)
    expect(select(both, 'web', 'previous')).toBeUndefined()
    expect(untidy(both)).toEqual([])
    pve.guests.delete(9000)
    expect(await current(pve)).toBe(9050)
    await promote(pve.client(), putTemplate(pve, 9000, 'candidate', '20260102.1'))
    expect(turns(pve)).toEqual({ 9000: 'current 2', 9050: 'previous 1' })
    expect(pve.tagsOf(9050)).not.toContain('ib-standin')
  })
})

describe('the version that a rollback takes', () => {
  const at = (version: string, state: State, more: Partial<Marks> = {}, node = 'pve') => ({
    ...{ kind: 'vm' as const, node, vmid: 9000, name: 'x' },
    marks: { vmid: 9000, namespace: 'homelab', image: 'web', version, state, ...more },
  })
  test.each<[string, Template[], string | undefined]>([
    ['there is none', [], undefined],
    ['nothing is older', [at('20260102.1', 'current'), at('20260103.1', 'retired')], undefined],
    [
      'the newest of what is older',
      [at('20260101.9', 'retired'), at('20260101.10', 'previous'), at('20260102.1', 'current')],
      '20260101.10',
    ],
    [
      'not what is being removed, nor an unproven candidate',
      [
        at('20260101.1', 'retired'),
        at('20260101.2', 'retired', { expires: 1 }),
        at('20260101.3', 'candidate'),
        at('20260101.4', 'candidate', { verified: 'inside', expires: 1 }),
        at('20260102.1', 'current'),
      ],
      '20260101.1',
    ],
    [
      'a proven candidate',
      [at('20260101.3', 'candidate', { verified: 'outside' }), at('20260102.1', 'current')],
      '20260101.3',
    ],
    [
      'on each node that has a current one',
      [
        at('20260101.1', 'retired'),
        at('20260101.1', 'retired', {}, 'b'),
        at('20260101.2', 'previous'),
        at('20260102.1', 'current'),
        at('20260102.1', 'current', {}, 'b'),
      ],
      '20260101.1',
    ],
    [
      'the one of a rollback that was cut off between two nodes',
      [
        at('20260101.1', 'retired'),
        at('20260101.1', 'retired', {}, 'b'),
        at('20260101.2', 'current', { turn: 4, held: true }),
        at('20260101.2', 'previous', { turn: 2 }, 'b'),
        at('20260102.1', 'previous', { turn: 3 }),
        at('20260102.1', 'current', { turn: 3 }, 'b'),
      ],
      '20260101.2',
    ],
    [
      'the next one where the last rollback is complete',
      [
        at('20260101.1', 'retired'),
        at('20260101.1', 'retired', {}, 'b'),
        at('20260101.2', 'current', { turn: 4, held: true }),
        at('20260101.2', 'current', { turn: 4, held: true }, 'b'),
        at('20260102.1', 'previous', { turn: 3 }, 'b'),
      ],
      '20260101.1',
    ],
  ])('%s', (_what, templates, version) => {
    expect(rollbackVersion(templates, 'web')).toBe(version)
  })

  test('a promotion that was cut off between two nodes is known as such, until one cannot have it', () => {
    const done = at('20260102.1', 'current', { turn: 3 })
    const undone = [at('20260101.1', 'current', { turn: 2 }, 'b'), at('20260102.1', 'retired', {}, 'b')]
    expect(halfSwitched([done, ...undone], 'web')).toBe('20260102.1')
    expect(halfSwitched([done, ...undone.slice(0, 1)], 'web')).toBeUndefined()
    expect(halfSwitched([done, at('20260102.1', 'current', { turn: 3 }, 'b')], 'web')).toBeUndefined()
    // Back to what they had both, not on to what was cut off.
    expect(rollbackVersion([done, ...undone, at('20260101.1', 'previous', { turn: 2 })], 'web')).toBe(
      '20260101.1',
    )
  })
})
