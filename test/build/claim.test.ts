import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { buildImage } from '../../src/build/build.ts'
import { removeLeftovers } from '../../src/build/leftovers.ts'
import { applyRetention } from '../../src/build/retention.ts'
import { buildWhenFree } from '../../src/build/wait.ts'
import type { TemplateRow } from '../../src/core/events.ts'
import type { SourceSpec } from '../../src/definition/spec.ts'
import { makePlan } from '../../src/plan/plan.ts'
import { ClaimLost } from '../../src/pve/claim-refused.ts'
import { fromTags, type Note, parseNote, renderNote, toTags } from '../../src/pve/marks.ts'
import { promote } from '../../src/pve/promotion.ts'
import { nodeTemplates } from '../../src/pve/templates.ts'
import { bootstrapIdentity } from '../../src/source/bootstrap-recipe.ts'
import { pause } from '../core/paused.ts'
import { imageSpec, WHERE } from '../plan/spec.ts'
import { type MemoryGuest, MemoryProxmox, past, refused, SOMEBODY } from '../pve/memory-proxmox.ts'
import { putOurs } from '../pve/our-guest.ts'
import { aBuild, aClaim } from './world.ts'

/** What a build does whose claim is another's, or gone, when it looks. A proven candidate waits, so that nothing is built. */

const source: SourceSpec = {
  kind: 'bootstrap',
  distribution: 'debian',
  suite: 'bookworm',
  packages: [],
  architecture: 'amd64',
  where: WHERE,
}
const image = imageSpec({ source })
const identity = bootstrapIdentity({ distribution: 'debian', suite: 'bookworm', arch: 'amd64', packages: [] })
const { digest } = makePlan(image, { sourceIdentity: identity, ssh: { authorities: [] } })
const keep = { ...image, template: { ...image.template, keep: 1 } }

const state = (pve: MemoryProxmox, vmid: number) => fromTags(vmid, pve.tagsOf(vmid).join(';'))?.state
const claims = (pve: MemoryProxmox) => [...pve.guests.keys()].filter((vmid) => vmid >= 9900)

/** As if somebody else had taken the claim over. */
function steal(pve: MemoryProxmox): void {
  for (const vmid of claims(pve)) {
    const { config } = pve.guests.get(vmid) as MemoryGuest
    const note = parseNote(vmid, String(config.description)) as Note
    config.description = renderNote({ ...note, run: 'thief', owner: SOMEBODY })
  }
}

const remove = (pve: MemoryProxmox) => {
  for (const vmid of claims(pve)) pve.guests.delete(vmid)
}

/** The first time that the build looks at its claim: the candidate is about to be promoted. */
function beforePromotion(pve: MemoryProxmox, meddle: () => void | Promise<void>): void {
  pve.before = async (call) => {
    if (!/^GET \/nodes\/pve\/qemu\/99\d\d\/config$/.test(call)) return
    pve.before = () => {}
    await meddle()
  }
}

describe('a build whose result is about to count', () => {
  let pve: MemoryProxmox
  beforeEach(() => {
    pve = new MemoryProxmox()
    putOurs(pve, 9000, 'current', { digest: 'sha256:older', turn: 1 })
    putOurs(pve, 9001, 'candidate', { digest, verified: 'inside' })
  })
  const becomeCurrent = async (vmid: number, held: boolean) => {
    const found = (await nodeTemplates(pve.client(), 'pve', 'homelab')).find((one) => one.vmid === vmid)
    if (found) await promote(pve.client(), found, { held })
  }

  test('and whose claim another run has taken over promotes nothing, and leaves all as it is', async () => {
    beforePromotion(pve, () => steal(pve))
    const written: TemplateRow[][] = []
    const build = aBuild({ image: keep, writeDown: async (rows) => void written.push(rows) }, pve)
    const error = await buildImage(build).catch((error) => error)
    expect(error).toBeInstanceOf(ClaimLost)
    expect(error).toMatchObject({ exitCode: 75, why: expect.stringContaining('(run thief)') })
    expect([state(pve, 9000), state(pve, 9001)]).toEqual(['current', 'candidate'])
    expect(claims(pve)).toHaveLength(1)
    expect(written).toEqual([])
  })

  test('and whose claim is gone claims the image anew, and goes on', async () => {
    beforePromotion(pve, () => remove(pve))
    const build = aBuild({ image }, pve)
    expect(await buildImage(build)).toMatchObject({ status: 'built', template: { vmid: 9001 } })
    expect([state(pve, 9000), state(pve, 9001)]).toEqual(['previous', 'current'])
    expect(claims(pve)).toEqual([])
    expect(build.events).toContainEqual(
      expect.objectContaining({ type: 'warning', message: expect.stringContaining('was gone') }),
    )
  })

  test.each([
    ['became current', false],
    ['was rolled back to', true],
  ])(
    'and whose claim was gone while another version %s stays a candidate, and says so',
    async (_what, held) => {
      putOurs(pve, 9002, 'previous', { digest: 'sha256:other', turn: 0, version: '20251231.1' })
      beforePromotion(pve, async () => {
        remove(pve)
        await becomeCurrent(9002, held)
      })
      const build = aBuild({ image: keep }, pve)
      expect(await buildImage(build)).toMatchObject({
        held,
        template: { vmid: 9002, digest: 'sha256:other' },
      })
      expect(state(pve, 9001)).toBe('candidate')
      expect(state(pve, 9002)).toBe('current')
      // Nothing is removed either.
      expect([...pve.guests.keys()]).toEqual([9000, 9001, 9002])
      expect(build.events).toContainEqual(
        expect.objectContaining({
          type: 'warning',
          message: expect.stringContaining('To make it so: imagebuild promote web@20260101.9001'),
        }),
      )
    },
  )

  test('and loses its claim afterwards removes no old version, writes nothing down, and says what is current', async () => {
    pve.after = (call) => {
      if (call !== 'PUT /nodes/pve/qemu/9001/config') return
      pve.after = () => {}
      steal(pve)
    }
    const written: TemplateRow[][] = []
    const build = aBuild({ image: keep, writeDown: async (rows) => void written.push(rows) }, pve)
    const error = await buildImage(build).catch((error) => error)
    expect(error).toMatchObject({ code: 'busy', exitCode: 75 })
    expect(error.next).toContain('current is 20260101.9001 on pve, and stays so')
    expect(pve.guests.has(9000)).toBe(true)
    expect(state(pve, 9001)).toBe('current')
    expect(written).toEqual([])
  })

  test('is written down while nobody else may build the image', async () => {
    const seen: [number[], (string | undefined)[]][] = []
    const writeDown = async (rows: TemplateRow[]) => {
      seen.push([rows.map(({ vmid }) => vmid), claims(pve).map((vmid) => state(pve, vmid))])
    }
    await buildImage(aBuild({ image, writeDown }, pve))
    await buildImage(aBuild({ image, writeDown }, pve))
    expect(seen).toEqual([
      [[9001], ['claim']],
      [[9001], []],
    ])
  })

  test('and whose claim cannot be asked afterwards is current all the same, and not written down', async () => {
    let looks = 0
    pve.before = (call) => {
      if (/^GET \/nodes\/pve\/qemu\/99\d\d\/config$/.test(call) && ++looks === 2)
        throw refused('GET', call, 'no quorum')
    }
    const written: TemplateRow[][] = []
    const build = aBuild({ image, writeDown: async (rows) => void written.push(rows) }, pve)
    expect(await buildImage(build)).toMatchObject({ status: 'built', template: { vmid: 9001 } })
    expect(written).toEqual([])
    expect(build.events).toContainEqual(
      expect.objectContaining({ type: 'warning', message: expect.stringContaining('no quorum') }),
    )
  })

  test('and loses its claim before that is written down says what is current all the same', async () => {
    let looks = 0
    pve.before = (call) => {
      // Before the promotion, and before the lockfile: nothing is beyond what is kept.
      if (/^GET \/nodes\/pve\/qemu\/99\d\d\/config$/.test(call) && ++looks === 2) steal(pve)
    }
    const written: TemplateRow[][] = []
    const build = aBuild({ image, writeDown: async (rows) => void written.push(rows) }, pve)
    const error = await buildImage(build).catch((error) => error)
    expect(error).toMatchObject({ exitCode: 75 })
    expect(error.next).toContain('current is 20260101.9001 on pve, and stays so')
    expect(written).toEqual([])
  })
})

describe('what others have left', () => {
  const lost = aClaim({ confirm: () => Promise.reject(new Error('it is another run’s')) })

  test('is removed only while the claim is there', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9002, 'candidate', { digest: 'sha256:other' })
    await expect(removeLeftovers(aBuild({}, pve), lost, 'sha256:new')).rejects.toThrow('another run’s')
    expect(pve.guests.has(9002)).toBe(true)
  })

  test('as old versions goes only while the claim is there', async () => {
    const pve = new MemoryProxmox()
    for (const n of [1, 2, 3])
      putOurs(pve, 9000 + n, n === 3 ? 'current' : 'retired', { digest: `sha256:${n}`, turn: n })
    const stop = new AbortController()
    stop.abort(new Error('it is another run’s'))
    const by = aBuild({ signal: stop.signal }, pve)
    const of = { namespace: 'homelab', image: 'web', keep: 1 }
    await expect(applyRetention({ ...by, pve: pve.client() }, lost, of)).rejects.toThrow('another run’s')
    expect([...pve.guests.keys()]).toEqual([9001, 9002, 9003])
  })
})

describe('where the server tells no time', () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  test('--wait waits until the claim has not changed for as long as one is good', async () => {
    const pve = new MemoryProxmox()
    pve.now = () => undefined
    putOurs(pve, 9000, 'current', { digest: 'sha256:older', turn: 1 })
    putOurs(pve, 9001, 'candidate', { digest, verified: 'inside' })
    const own = { vmid: 9904, namespace: 'homelab', image: 'web' } as const
    const note: Note = {
      schema: 1,
      ...own,
      kind: 'vm',
      tool: '0',
      run: 'dead',
      owner: SOMEBODY,
      expires: past(),
    }
    pve.put(9904, { tags: toTags({ ...own, state: 'claim' }), description: renderNote(note) })
    const build = aBuild({ image }, pve)
    const waiting = buildWhenFree(build)
    await expect.poll(() => build.events).toContainEqual(expect.objectContaining({ step: 'wait' }))
    expect(state(pve, 9001)).toBe('candidate')
    pause('stopped', 301)
    expect(await waiting).toMatchObject({ status: 'built', template: { vmid: 9001 } })
  })
})
