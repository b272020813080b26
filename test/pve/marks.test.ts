import { describe, expect, test } from 'vitest'
import {
  foreignTags,
  fromTags,
  type Marks,
  type Note,
  parseNote,
  renderNote,
  shortDigest,
  toTags,
} from '../../src/pve/marks.ts'

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`

const MARKS: Marks = {
  vmid: 9000,
  namespace: 'home-lab',
  image: 'debian-base',
  state: 'current',
  version: '20251112.10',
  digest: DIGEST,
  expires: 1762905600,
  address: '192.0.2.100',
  held: true,
}

describe('tags', () => {
  test('are what Proxmox takes, sorted, with the digest cut short', () => {
    const tags = toTags(MARKS, ['web', 'web'])
    expect(tags).toBe(
      'ib-address-192.0.2.100;ib-current;ib-digest-0123456789abcdef;ib-expires-1762905600;ib-held;' +
        'ib-id-9000;ib-image-debian-base;ib-ns-home-lab;ib-version-20251112.10;web',
    )
    for (const tag of tags.split(';')) expect(tag).toMatch(/^[a-z0-9_][a-z0-9_\-+.]*$/)
  })

  test.each<[string, Marks]>([
    ['everything', { ...MARKS, digest: shortDigest(DIGEST) }],
    ['of a stand-in', { ...MARKS, digest: shortDigest(DIGEST), turn: 12, standin: true }],
    [
      'of a candidate for a fixed VMID',
      { vmid: 9001, namespace: 'a', image: 'b', state: 'candidate', swap: 9000 },
    ],
    ['on a shared storage', { vmid: 9001, namespace: 'a', image: 'b', state: 'current', shared: true }],
    ['only what must be', { vmid: 100, namespace: 'a', image: 'b', state: 'building' }],
    ['names like states', { vmid: 100, namespace: 'current', image: 'claim', state: 'retired' }],
  ])('there and back: %s', (_what, marks) => {
    expect(fromTags(marks.vmid, toTags(marks))).toEqual(marks)
    expect(fromTags(marks.vmid, toTags(marks).replaceAll(';', ','))).toEqual(marks)
    expect(fromTags(marks.vmid, toTags(marks).replaceAll(';', ' '))).toEqual(marks)
  })

  test.each(['0', '-1', '1.5', 'x', '', '1'.repeat(40)])('a turn `%s` is none', (turn) => {
    const tags = `${toTags({ ...MARKS, held: false })};ib-turn-${turn};ib-swap-${turn}`
    const marks = fromTags(9000, tags)
    expect([marks?.turn, marks?.swap, marks?.state]).toEqual([undefined, undefined, 'current'])
  })

  test('of a clone are not ours: they name the guest that it was cloned from', () => {
    expect(fromTags(9001, toTags(MARKS))).toBeUndefined()
    expect(fromTags(900, toTags(MARKS))).toBeUndefined()
  })

  test.each([
    '',
    undefined,
    'web;prod',
    'ib-id-9000',
    'ib-id-9000;ib-ns-a;ib-image-b',
    'ib-id-9000;ib-ns-a;ib-current',
  ])('without all of ours are not ours: %s', (tags) => {
    expect(fromTags(9000, tags)).toBeUndefined()
  })

  test('of others are kept apart', () => {
    expect(foreignTags(toTags(MARKS, ['web', 'prod']))).toEqual(['prod', 'web'])
    expect(foreignTags(undefined)).toEqual([])
  })
})

const NOTE: Note = {
  schema: 1,
  vmid: 9000,
  namespace: 'homelab',
  image: 'web',
  kind: 'vm',
  tool: '0.1.0',
  run: 'cafe0123',
  source: {
    request: 'release debian/12 amd64',
    identity: 'sha512:ab',
    version: '20251112-2294',
    fallback: false,
  },
}

describe('notes', () => {
  test.each([undefined, 'A web server', 'Two\nlines, `code` and ümläuts'])(
    'there and back below %j',
    (text) => {
      const description = renderNote(NOTE, text)
      expect(parseNote(9000, description)).toEqual(NOTE)
      // Proxmox adds a line end to a container's description.
      expect(parseNote(9000, `${description}\n`)).toEqual(NOTE)
      if (text !== undefined) expect(description.startsWith(`${text}\n\n`)).toBe(true)
    },
  )

  test('are found below and above what people have written', () => {
    expect(parseNote(9000, `# Notes\n\n${renderNote(NOTE)}\nDo not touch!\n`)).toEqual(NOTE)
  })

  test('of another guest do not count: a clone carries its template’s', () => {
    expect(parseNote(9001, renderNote(NOTE))).toBeUndefined()
  })

  test.each([
    undefined,
    '',
    'just words',
    '```imagebuild\nnot json\n```\n',
    '```imagebuild',
    '```imagebuild\nnull\n```\n',
    '```imagebuild\n{"schema":2,"vmid":9000}\n```\n',
  ])('are not found in %j', (description) => {
    expect(parseNote(9000, description)).toBeUndefined()
  })

  test('fit into Proxmox’s 8192 characters together with the longest description', () => {
    const artifacts = { 'report.json': 'x'.repeat(6 * 1024 - JSON.stringify(NOTE).length - 40) }
    expect(renderNote({ ...NOTE, artifacts }, 'd'.repeat(2000)).length).toBeLessThan(8192)
    const tooLarge = { 'report.json': 'x'.repeat(6 * 1024) }
    expect(() => renderNote({ ...NOTE, artifacts: tooLarge })).toThrow(/larger than 6144 bytes/)
    // Counted in bytes: these are 3 each.
    expect(() => renderNote({ ...NOTE, artifacts: { a: '€'.repeat(2048) } })).toThrow(/larger/)
  })
})
