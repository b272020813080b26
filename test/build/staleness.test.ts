import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Build } from '../../src/build/context.ts'
import { recordedPackages } from '../../src/build/recorded-packages.ts'
import { PACKAGES, recordsFolder, writeRecord } from '../../src/build/records.ts'
import { type Judged, staleness } from '../../src/build/staleness.ts'
import type { ImageSpec } from '../../src/definition/spec.ts'
import { digestOfReasons, type StaleReason } from '../../src/plan/staleness.ts'
import { takeGlance } from '../../src/pve/glance.ts'
import type { Marks, Note } from '../../src/pve/marks.ts'
import { formatPackageList } from '../../src/updates/package-list.ts'
import { imageSpec, shellLayer, WHERE } from '../plan/spec.ts'
import { MemoryProxmox, PLACE } from '../pve/memory-proxmox.ts'
import { putTemplate, web } from './put-template.ts'
import { aBuild } from './world.ts'

let reportsDir: string
let pve: MemoryProxmox
beforeEach(async () => {
  reportsDir = await mkdtemp(join(tmpdir(), 'imagebuild-stale-'))
  pve = new MemoryProxmox()
})
afterEach(async () => {
  await rm(reportsDir, { recursive: true })
})

const PACKAGE = {
  name: 'openssl',
  version: '1',
  architecture: 'amd64',
  source: 'openssl',
  sourceVersion: '1',
}

/** Its template, with a record of its packages. */
async function built(image: ImageSpec, vmid: number, change: Partial<Marks> = {}, note: Partial<Note> = {}) {
  const distribution = { id: 'debian', version: '12', codename: 'bookworm' }
  const list = { image: image.name, distribution, architecture: 'amd64', sources: [], packages: [PACKAGE] }
  const folder = recordsFolder(reportsDir, image.name, `20260101.${vmid}`)
  const sha256 = await writeRecord(folder, PACKAGES, formatPackageList(list))
  const artifacts = { [PACKAGES]: sha256 }
  return await putTemplate({ pve, reportsDir }, image, vmid, change, { artifacts, ...note })
}

interface Asked extends Partial<Build> {
  parent?: Judged
  updates?: StaleReason[]
}

async function judge(image: ImageSpec, { parent, updates = [], ...change }: Asked = {}): Promise<Judged> {
  const options = { force: false, noCache: false, onError: 'cleanup', verify: 'full' } as const
  const build = aBuild({ image, reportsDir, root: '/', options, ...change }, pve)
  const { place, places = [place] } = build
  const glance = await takeGlance(build.pve, { namespace: 'homelab', nodes: places.map(({ node }) => node) })
  const recorded = (await recordedPackages([build], glance)).get(image.name) ?? []
  const judged = await staleness({ ...build, glance }, { recorded, updates, pauseAfter: 3, parent })
  expect(pve.writes).toEqual([])
  return judged
}

const summary = ({ state: { state, action, reasons } }: Judged) => [
  `${state}: ${action}`,
  ...reasons.map(({ kind, text }) => `${kind}: ${text}`),
]
const SECURITY: StaleReason = { kind: 'security', subject: 'openssl', text: 'newer', action: 'refresh' }

describe('one image', () => {
  test('as its definition says, and recorded: fresh, with what is in it', async () => {
    const { digest } = await built(web(), 9000)
    const { state } = await judge(web())
    expect(state).toMatchObject({
      ...{ image: 'web', state: 'fresh', action: 'nothing', reasons: [], digest },
      templates: [{ node: 'pve', vmid: 9000 }],
      note: { version: '20260101.9000' },
      packages: { packages: [PACKAGE] },
    })
  })

  test('that was never built, or not on one of the nodes: missing', async () => {
    expect(summary(await judge(web()))).toEqual(['stale: build', 'missing: there is no current template'])
    await built(web(), 9000)
    const places = [PLACE, { ...PLACE, node: 'pve2' }]
    const { state } = await judge(web(), { places })
    expect(state.reasons).toMatchObject([{ kind: 'missing', subject: 'pve2' }])
  })

  test('whose definition changed: the layer, by its name and place', async () => {
    await built(web('one\n'), 9000)
    expect((await judge(web('two\n'))).state.reasons).toMatchObject([
      { kind: 'definition', subject: 'shell: true', where: { line: expect.any(Number) }, action: 'build' },
    ])
  })

  test('whose checks changed is verified, and not built', async () => {
    await built(web(), 9000)
    const checks: ImageSpec['checks'] = [
      { ...{ id: 'x', title: 'x', sources: [] }, kind: 'package', package: 'nginx', installed: true },
    ]
    expect(summary(await judge({ ...web(), checks }))).toEqual([
      'stale: verify',
      'verify: the checks changed since 20260101.9000 was verified: nothing is rebuilt',
    ])
  })

  test('that is older than it may be, by the server’s clock', async () => {
    await built(web(), 9000, {}, { built: '2026-01-01T00:00:00Z' })
    const image = { ...web(), template: { ...web().template, maxAge: 86_400 } }
    const [state, reason] = summary(await judge(image))
    expect([state, reason]).toEqual([
      'stale: refresh',
      expect.stringMatching(/^age: built \d+ days ago, on 2026-01-01/),
    ])
    expect((await judge({ ...image, template: { ...image.template, maxAge: 1e9 } })).state.state).toBe(
      'fresh',
    )
  })

  test('held after a rollback: what it waits for', async () => {
    await built(web('old\n'), 9000, { held: true })
    expect(summary(await judge(web('new\n'), { updates: [SECURITY] }))).toEqual([
      'held: nothing',
      'definition: layer 1/1 changed: shell: true',
      'security: newer',
    ])
  })

  test('paused after failures for these very reasons', async () => {
    const { digest } = await built(web(), 9000)
    const reasons = digestOfReasons({ reasons: [SECURITY], digest })
    await built(web(), 9000, {}, { failures: { count: 3, reasons, at: '2026-01-01T00:00:00Z' } })
    expect(summary(await judge(web(), { updates: [SECURITY] }))).toEqual([
      'paused: nothing',
      'security: newer',
    ])
    expect((await judge(web())).state.state).toBe('fresh')
  })

  test('without a record of its packages: built anew, where no build wrote one; else somebody has it', async () => {
    await putTemplate({ pve, reportsDir }, web(), 9000)
    expect(summary(await judge(web()))).toEqual([
      'stale: refresh',
      expect.stringContaining('unknown: an older imagebuild built 20260101.9000'),
    ])
    await built(web(), 9000)
    const elsewhere = await judge(web(), { reportsDir: '/nonexistent' })
    expect(summary(elsewhere)).toEqual([
      'unknown: nothing',
      expect.stringMatching(/not here, or is another one \(sha256 [0-9a-f]{64}\): merge the change/),
    ])
    expect(elsewhere.state.packages).toBeUndefined()
  })

  test('a record that nobody can read is said', async () => {
    const folder = recordsFolder(reportsDir, 'web', '20260101.9000')
    const sha256 = await writeRecord(folder, PACKAGES, '# schema: 2\n\n')
    await putTemplate({ pve, reportsDir }, web(), 9000, {}, { artifacts: { [PACKAGES]: sha256 } })
    expect(summary(await judge(web()))).toEqual([
      'unknown: nothing',
      expect.stringContaining('which only a newer imagebuild can read'),
    ])
  })
})

describe('a child', () => {
  const source = { kind: 'image', image: 'base', architecture: 'amd64', where: WHERE } as const
  const child = imageSpec({ name: 'child', source, layers: [shellLayer()] })
  const base = (script = 'one\n') => web(script, 'base')

  async function family(): Promise<void> {
    const { digest } = await built(base(), 9000, {}, { version: '20260101.9000' })
    const record = { request: 'image base', identity: digest, version: '20260101.9000', fallback: false }
    await built(child, 9001, {}, { source: record })
  }

  test('of a parent that is fresh: fresh', async () => {
    await family()
    expect(summary(await judge(child, { parent: await judge(base()) }))).toEqual(['fresh: nothing'])
  })

  test('of a parent whose definition changed: built after it', async () => {
    await family()
    const parent = await judge(base('two\n'))
    expect(summary(await judge(child, { parent }))).toEqual([
      'stale: build',
      'parent: its parent base is built anew first',
    ])
  })

  test('of a parent that gets newer packages: built after it, although its digest stays', async () => {
    await family()
    const parent = await judge(base(), { updates: [SECURITY] })
    expect(summary(await judge(child, { parent }))).toEqual([
      'stale: refresh',
      'parent: its parent base is built anew first',
    ])
  })

  test('of a parent that is built anew from the same definition since: stale, by both versions', async () => {
    await family()
    await built(base(), 9000, { state: 'previous' })
    await built(base(), 9002)
    const { state } = await judge(child, { parent: await judge(base()) })
    expect(state.reasons).toEqual([
      {
        ...{ kind: 'parent', subject: 'base', action: 'refresh' },
        text: 'its parent base is another one by now: 20260101.9000 → 20260101.9002',
      },
    ])
  })

  test('of a parent that is paused: nothing is built for that, whether or not its digest would change', async () => {
    await family()
    const pausedFor = async (script: string, updates: StaleReason[]) => {
      const { state } = await judge(base(script), { updates })
      const failures = { count: 3, reasons: digestOfReasons(state), at: '2026-01-01T00:00:00Z' }
      await built(base(), 9000, {}, { failures })
      return await judge(base(script), { updates })
    }
    for (const [script, updates] of [
      ['one\n', [SECURITY]],
      ['two\n', []],
    ] as const) {
      const parent = await pausedFor(script, [...updates])
      expect(parent.state.state).toBe('paused')
      expect(summary(await judge(child, { parent }))).toEqual(['fresh: nothing'])
    }
  })
})
