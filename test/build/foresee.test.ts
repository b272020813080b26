import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Build } from '../../src/build/context.ts'
import { type Foresight, foresee } from '../../src/build/foresee.ts'
import { PLAN, recordsFolder, writeRecord } from '../../src/build/records.ts'
import type { ImageSpec } from '../../src/definition/spec.ts'
import { digestOfChecks, makePlan } from '../../src/plan/plan.ts'
import { type Marks, type Note, toTags } from '../../src/pve/marks.ts'
import { imageSpec, shellLayer, WHERE } from '../plan/spec.ts'
import { MemoryProxmox, PLACE } from '../pve/memory-proxmox.ts'
import { IDENTITY, PASSED, putTemplate, web } from './put-template.ts'
import { aBuild } from './world.ts'

let reportsDir: string
let pve: MemoryProxmox
beforeEach(async () => {
  reportsDir = await mkdtemp(join(tmpdir(), 'imagebuild-foresee-'))
  pve = new MemoryProxmox()
})
afterEach(async () => {
  await rm(reportsDir, { recursive: true })
})

const built = (image: ImageSpec, vmid: number, change: Partial<Marks> = {}, note: Partial<Note> = {}) =>
  putTemplate({ pve, reportsDir }, image, vmid, change, note)

async function look(image: ImageSpec, parent?: Foresight, change: Partial<Build> = {}): Promise<Foresight> {
  const options = { force: false, noCache: false, onError: 'cleanup', verify: 'full' } as const
  const foresight = await foresee(aBuild({ image, reportsDir, root: '/', options, ...change }, pve), parent)
  expect(pve.writes).toEqual([])
  return foresight
}

const summary = ({ action, reasons }: Foresight) => [action, ...reasons.map(({ text }) => text)]

describe('one image', () => {
  test('that was never built is', async () => {
    expect(summary(await look(web()))).toEqual(['build', 'there is no current template'])
  })

  test('whose VMID its definition fixes by now: it moves', async () => {
    await built(web(), 9000)
    const image = { ...web(), template: { ...web().template, vmid: 8000 } }
    const text = '20260101.9000 moves from VMID 9000 to 8000 on pve: nothing is rebuilt'
    expect(await look(image)).toMatchObject({ action: 'move', reasons: [{ kind: 'vmid', text }] })
    const there = { ...image, template: { ...image.template, vmid: { pve: 9000, other: 1 } } }
    expect((await look(there)).action).toBe('nothing')
  })

  test('that is as its definition says: nothing', async () => {
    const { digest } = await built(web(), 9000)
    expect(await look(web())).toEqual({
      image: 'web',
      action: 'nothing',
      reasons: [],
      templates: [{ node: 'pve', vmid: 9000, name: 'web-20260101.9000', version: '20260101.9000', digest }],
      digest,
      after: digest,
    })
  })

  test('whose definition changed is rebuilt: which line, and how', async () => {
    await built(web('one\n'), 9000)
    const { action, reasons } = await look(web('two\n'))
    expect(action).toBe('rebuild')
    expect(reasons).toMatchObject([
      { text: 'layer 1/1 changed: shell: true', diff: expect.stringContaining('-one\n+two') },
    ])
  })

  test('with the record elsewhere: which layer, and where the rest is', async () => {
    await built(web('one\n'), 9000)
    const { reasons } = await look(web('two\n'), undefined, { reportsDir: '/nonexistent' })
    expect(reasons.map(({ text }) => text)).toEqual([
      'layer 1/1 is new or changed: shell: true',
      expect.stringMatching(/plan\.json, sha256 [0-9a-f]{64}$/),
    ])
  })

  test('a record that somebody has changed is not believed', async () => {
    await built(web('one\n'), 9000)
    await writeRecord(recordsFolder(reportsDir, 'web', '20260101.9000'), PLAN, '{"schema":1,"layers":[]}')
    expect(summary(await look(web('two\n')))[1]).toBe('layer 1/1 is new or changed: shell: true')
  })

  test('other checks are asked, nothing is rebuilt', async () => {
    await built(web(), 9000)
    const checks: ImageSpec['checks'] = [
      { ...{ id: 'x', title: 'x', sources: [] }, kind: 'package', package: 'nginx', installed: true },
    ]
    expect(summary(await look({ ...web(), checks }))).toEqual([
      'verify',
      'the checks changed since 20260101.9000 was verified: nothing is rebuilt',
    ])
  })

  test('that nobody has verified is, unless nobody wants that', async () => {
    await built(web(), 9000, {}, { verify: 'off' })
    expect(summary(await look(web()))).toEqual(['verify', 'nobody has looked at clones of it yet'])
    const options = { force: false, noCache: false, onError: 'cleanup', verify: 'off' } as const
    expect((await look(web(), undefined, { options })).action).toBe('nothing')
  })

  test('whose verification failed is verified again', async () => {
    const { checks } = makePlan(web(), { sourceIdentity: IDENTITY, ssh: { authorities: [] } })
    await built(web(), 9000, {}, { verify: { ...PASSED, failed: 2, checks: digestOfChecks(checks) } })
    expect(summary(await look(web()))).toEqual(['verify', '2 checks failed on its clones'])
  })

  test('a finished candidate of this definition is verified instead of built', async () => {
    await built(web('one\n'), 9000)
    await built(web('two\n'), 9001, { state: 'candidate' }, { verify: 'off' })
    const { action, reasons } = await look(web('two\n'))
    expect(action).toBe('verify')
    expect(reasons[0]?.text).toBe('20260101.9001, built from this definition, waits to be verified')
    expect(reasons[1]?.text).toBe('layer 1/1 changed: shell: true')
  })

  test('held after a rollback stays, whatever its definition says', async () => {
    const { digest } = await built(web('old\n'), 9000, { held: true })
    const foresight = await look(web('new\n'))
    expect(summary(foresight)).toEqual([
      'held',
      expect.stringContaining('rolled back to 20260101.9000'),
      'layer 1/1 changed: shell: true',
    ])
    // Children start from what is there.
    expect(foresight.after).toBe(digest)
  })

  test('somebody else’s note is no reason to fail', async () => {
    pve.put(9000, {
      ...{ name: 'web', template: 1, description: 'nothing of ours' },
      tags: toTags({
        vmid: 9000,
        namespace: 'homelab',
        image: 'web',
        state: 'current',
        version: '20260101.1',
      }),
    })
    expect((await look(web())).action).toBe('rebuild')
  })
})

describe('a child', () => {
  const source = { kind: 'image', image: 'base', architecture: 'amd64', where: WHERE } as const
  const child = imageSpec({ name: 'child', source, layers: [shellLayer()] })
  const base = (script: string) => web(script, 'base')

  async function family(script: string) {
    const parent = await built(base('one\n'), 9000)
    const record = {
      request: 'image base',
      identity: parent.digest,
      version: '20260101.9000',
      fallback: false,
    }
    await built(child, 9001, {}, { source: record })
    return await look(base(script))
  }

  test('of a parent that stays as it is: nothing', async () => {
    const parent = await family('one\n')
    expect([parent.action, (await look(child, parent)).action]).toEqual(['nothing', 'nothing'])
  })

  test('is rebuilt after a parent that is rebuilt, and so is its own child', async () => {
    const parent = await family('two\n')
    const foresight = await look(child, parent)
    expect(summary(foresight)).toEqual(['rebuild', 'its parent base is built anew first'])
    const grandchild = imageSpec({ name: 'grandchild', source: { ...source, image: 'child' } })
    expect((await look(grandchild, foresight)).action).toBe('build')
  })

  test('of a parent that is only verified again: nothing', async () => {
    await family('one\n')
    const checked = { ...(await look(base('one\n'))), action: 'verify' } as const
    expect((await look(child, checked)).action).toBe('nothing')
  })

  test('of a parent that was built since: from which version to which', async () => {
    await family('one\n')
    await built(base('one\n'), 9000, { state: 'previous' })
    await built(base('two\n'), 9002)
    expect(summary(await look(child))).toEqual([
      'rebuild',
      'its parent base changed: 20260101.9000 → 20260101.9002',
    ])
  })

  test('whose parent is nowhere, and is not built either: says what to type', async () => {
    await expect(look(child)).rejects.toMatchObject({ code: 'not_found', next: 'imagebuild run base' })
  })
})

describe('on several nodes', () => {
  const places = [PLACE, { ...PLACE, node: 'pve2' }]

  test('one that lacks the template is named', async () => {
    await built(web(), 9000)
    const foresight = await look(web(), undefined, { places })
    expect(summary(foresight)).toEqual(['rebuild', 'there is no current template on pve2'])
    expect(foresight.templates.map(({ node }) => node)).toEqual(['pve'])
  })

  test('a child can be planned whose parent is still to be built on one of them', async () => {
    const source = { kind: 'image', image: 'base', architecture: 'amd64', where: WHERE } as const
    const base = web('one\n', 'base')
    await built(base, 9000)
    const parent = await look(base, undefined, { places })
    expect(parent.action).toBe('rebuild')
    const child = imageSpec({ name: 'child', source, layers: [shellLayer()] })
    expect((await look(child, parent, { places })).action).toBe('build')
  })

  test('a candidate waits to be verified where each node has one that passes, as run sees it', async () => {
    const candidate = (vmid: number, node: string, note: Partial<Note> = {}) =>
      built(web(), vmid, { state: 'candidate', version: '20260101.1' }, note).then(() =>
        Object.assign(pve.guests.get(vmid) ?? {}, { node }),
      )
    await candidate(9000, 'pve')
    expect((await look(web(), undefined, { places })).action).toBe('build')
    // On a node that the target does not have.
    await candidate(9001, 'pve3')
    expect((await look(web(), undefined, { places })).action).toBe('build')
    await candidate(9001, 'pve2', { verify: { ...PASSED, failed: 1 } } as Partial<Note>)
    expect((await look(web(), undefined, { places })).action).toBe('verify')
    const options = { force: false, noCache: false, onError: 'cleanup', verify: 'off' } as const
    expect((await look(web(), undefined, { places, options })).action).toBe('build')
  })

  test('what changed is told once', async () => {
    await built(web('one\n'), 9000)
    await built(web('one\n'), 9001)
    const other = pve.guests.get(9001)
    if (other) other.node = 'pve2'
    const { reasons, templates } = await look(web('two\n'), undefined, { places })
    expect(reasons).toHaveLength(1)
    expect(templates.map(({ node }) => node)).toEqual(['pve', 'pve2'])
  })
})
