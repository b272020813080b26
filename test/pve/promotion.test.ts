import { describe, expect, test } from 'vitest'
import { fromTags, type Marks, parseNote, renderNote, type State, toTags } from '../../src/pve/marks.ts'
import { promote } from '../../src/pve/promotion.ts'
import { nodeTemplates, select, type Template } from '../../src/pve/templates.ts'
import { MemoryProxmox, refused } from './memory-proxmox.ts'

function put(pve: MemoryProxmox, vmid: number, state: State, version: string, more: Partial<Marks> = {}) {
  const marks: Marks = { vmid, namespace: 'homelab', image: 'web', state, version, ...more }
  const { namespace, image } = marks
  const note = renderNote(
    { schema: 1, vmid, namespace, image, kind: 'vm', tool: '0', run: 'r', version },
    'Text',
  )
  const config = { name: `web-${version}`, tags: toTags(marks, ['prod']), description: note, template: 1 }
  pve.put(vmid, config)
  return { kind: 'vm', node: 'pve', vmid, name: config.name, marks } satisfies Template
}

describe('promoting', () => {
  const states = (pve: MemoryProxmox) =>
    Object.fromEntries(
      [...pve.guests].map(([vmid, { config }]) => [vmid, fromTags(vmid, String(config.tags))?.state]),
    )

  test('the new one is current, what was current previous, what was previous retired', async () => {
    const pve = new MemoryProxmox()
    put(pve, 9000, 'retired', '20260101.1')
    put(pve, 9001, 'previous', '20260102.1')
    put(pve, 9002, 'current', '20260103.1')
    const candidate = put(pve, 9003, 'candidate', '20260104.1')
    await promote(pve.client(), candidate)
    expect(states(pve)).toEqual({ 9000: 'retired', 9001: 'retired', 9002: 'previous', 9003: 'current' })
  })

  test('at no moment there is no current one', async () => {
    const pve = new MemoryProxmox()
    put(pve, 9001, 'previous', '20260102.1')
    put(pve, 9002, 'current', '20260103.1')
    const candidate = put(pve, 9003, 'candidate', '20260104.1')
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
    put(pve, 9002, 'current', '20260103.1')
    await promote(pve.client(), put(pve, 9003, 'candidate', '20260104.1', { digest: 'abcdef0123456789' }))
    const config = pve.guests.get(9003)?.config
    const description = String(config?.description)
    expect(parseNote(9003, description)).toMatchObject({ previous: 9002, version: '20260104.1' })
    expect(description.startsWith('Text\n\n```imagebuild\n')).toBe(true)
    expect(String(config?.tags).split(';')).toContain('prod')
    expect(fromTags(9003, String(config?.tags))).toMatchObject({
      version: '20260104.1',
      digest: 'abcdef0123456789',
    })
    expect(pve.tagsOf(9002)).toContain('prod')
  })

  test('the first one of an image, and nothing of other images, is touched', async () => {
    const pve = new MemoryProxmox()
    put(pve, 9001, 'current', '20260102.1', { image: 'db' })
    put(pve, 9002, 'current', '20260102.1', { namespace: 'other' })
    const before = structuredClone([pve.guests.get(9001), pve.guests.get(9002)])
    await promote(pve.client(), put(pve, 9003, 'candidate', '20260104.1'))
    expect(states(pve)).toMatchObject({ 9003: 'current' })
    expect([pve.guests.get(9001), pve.guests.get(9002)]).toEqual(before)
    expect(parseNote(9003, String(pve.guests.get(9003)?.config.description))?.previous).toBeUndefined()
  })

  test('is no longer held back by a rollback', async () => {
    const pve = new MemoryProxmox()
    put(pve, 9002, 'current', '20260103.1', { held: true })
    await promote(pve.client(), put(pve, 9003, 'candidate', '20260104.1'))
    expect(pve.tagsOf(9002)).not.toContain('ib-held')
    expect(pve.tagsOf(9003)).not.toContain('ib-held')
  })

  test('settles what an interrupted promotion has left: two current ones', async () => {
    const pve = new MemoryProxmox()
    put(pve, 9001, 'current', '20260102.1')
    put(pve, 9002, 'current', '20260103.1')
    await promote(pve.client(), put(pve, 9003, 'candidate', '20260104.1'))
    expect(states(pve)).toEqual({ 9001: 'retired', 9002: 'previous', 9003: 'current' })
  })

  test('marks nothing that somebody else changed between reading and writing', async () => {
    const pve = new MemoryProxmox()
    const candidate = put(pve, 9003, 'candidate', '20260104.1')
    pve.before = (call) => {
      const guest = pve.guests.get(9003)
      if (call.startsWith('PUT') && guest) guest.config.tags = `${guest.config.tags};theirs`
    }
    await expect(promote(pve.client(), candidate)).rejects.toMatchObject({ code: 'busy' })
    expect(states(pve)).toEqual({ 9003: 'candidate' })
  })

  test('stops where Proxmox refuses, with the old one still there', async () => {
    const pve = new MemoryProxmox()
    put(pve, 9002, 'current', '20260103.1')
    const candidate = put(pve, 9003, 'candidate', '20260104.1')
    pve.before = (call) => {
      if (call === 'PUT /nodes/pve/qemu/9003/config')
        throw refused('PUT', 'x', 'Permission check failed', 403)
    }
    await expect(promote(pve.client(), candidate)).rejects.toMatchObject({ code: 'permission_denied' })
    expect(states(pve)).toEqual({ 9002: 'current', 9003: 'candidate' })
  })
})
