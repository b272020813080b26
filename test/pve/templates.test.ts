import { describe, expect, test } from 'vitest'
import { type State, toTags } from '../../src/pve/marks.ts'
import {
  byVersion,
  clusterTemplates,
  nextVersion,
  nodeTemplates,
  select,
  type Template,
} from '../../src/pve/templates.ts'
import { MemoryProxmox } from './memory-proxmox.ts'
import { putTemplate } from './our-guest.ts'

let vmids = 9000
function template(version: string, state: State = 'retired', image = 'web'): Template {
  const vmid = vmids++
  const marks = { vmid, namespace: 'homelab', image, state, version }
  return { kind: 'vm', node: 'pve', vmid, name: 'x', marks }
}

describe('what templates there are', () => {
  test('only those whose tags name themselves, of this namespace, and converted', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'current', '20260101.1')
    putTemplate(pve, 9001, 'current', '20260101.1', { namespace: 'other' })
    pve.put(9002, { tags: toTags({ vmid: 9002, namespace: 'homelab', image: 'web', state: 'building' }) })
    // Somebody's clone that was converted again: it has inherited tags and note.
    pve.put(500, { ...pve.guests.get(9000)?.config })
    pve.put(501, { name: 'theirs', template: 1 })
    for (const list of [
      await clusterTemplates(pve.client(), 'homelab'),
      await nodeTemplates(pve.client(), 'pve', 'homelab'),
    ])
      expect(list.map(({ vmid, node, name }) => ({ vmid, node, name }))).toEqual([
        { vmid: 9000, node: 'pve', name: 'web-20260101.1' },
      ])
    expect(pve.writes).toEqual([])
  })

  test('the cluster’s are of all nodes, a node’s its own', async () => {
    const pve = new MemoryProxmox()
    putTemplate(pve, 9000, 'current', '20260101.1')
    putTemplate(pve, 9001, 'previous', '20251231.1')
    const far = pve.guests.get(9001)
    if (far) far.node = 'pve2'
    expect((await clusterTemplates(pve.client(), 'homelab')).map(({ node }) => node)).toEqual(['pve', 'pve2'])
    expect((await nodeTemplates(pve.client(), 'pve2', 'homelab')).map(({ vmid }) => vmid)).toEqual([9001])
  })
})

describe('a selector', () => {
  const all = [
    template('20260101.2', 'current'),
    template('20260101.1', 'previous'),
    template('20251231.1', 'retired'),
    template('20260102.1', 'candidate'),
    template('20260103.1', 'current', 'db'),
  ]
  test.each([
    [undefined, '20260101.2'],
    ['', '20260101.2'],
    ['current', '20260101.2'],
    ['previous', '20260101.1'],
    ['20251231.1', '20251231.1'],
    ['20260103.1', undefined],
    ['latest', undefined],
  ])('%s means version %s', (selector, version) => {
    expect(select(all, 'web', selector)?.marks.version).toBe(version)
  })

  test('of two current ones, in the middle of a promotion, the newer counts', () => {
    const two = [template('20260101.10', 'current'), template('20260101.9', 'current')]
    expect(select(two, 'web')?.marks.version).toBe('20260101.10')
    expect(select([...two].reverse(), 'web')?.marks.version).toBe('20260101.10')
  })

  test('can be limited to a node', () => {
    expect(select(all, 'web', 'current', 'pve2')).toBeUndefined()
    expect(select(all, 'web', 'current', 'pve')).toBeDefined()
  })

  test('finds one on a shared storage from every node', () => {
    const [current, ...others] = all as [Template, ...Template[]]
    const shared = { ...current, marks: { ...current.marks, shared: true } }
    expect(select([shared, ...others], 'web', 'current', 'pve2')).toBe(shared)
  })
})

describe('versions', () => {
  test('sort by date, then by serial as a number', () => {
    const sorted = ['20260101.10', '20251231.11', '20260101.9', '20260101.1']
      .map((version) => template(version))
      .sort(byVersion)
    expect(sorted.map(({ marks }) => marks.version)).toEqual([
      '20251231.11',
      '20260101.1',
      '20260101.9',
      '20260101.10',
    ])
  })

  test('are the UTC date and the next serial of that day', () => {
    const now = new Date('2026-01-01T23:59:59.999Z')
    expect(nextVersion([], now)).toBe('20260101.1')
    const before = ['20260101.9', '20260101.10', '20251231.77', '20260101.99-rc', 'old']
    expect(nextVersion(before, now)).toBe('20260101.11')
  })
})
