import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { buildImage } from '../../src/build/build.ts'
import { pauses } from '../../src/core/pauses.ts'
import type { SourceSpec } from '../../src/definition/spec.ts'
import { digestBytes } from '../../src/plan/identity.ts'
import { makePlan } from '../../src/plan/plan.ts'
import type { Pve } from '../../src/pve/client.ts'
import { fromTags, renderNote, toTags } from '../../src/pve/marks.ts'
import type { Need } from '../../src/pve/permissions.ts'
import { promote } from '../../src/pve/promotion.ts'
import { nodeTemplates } from '../../src/pve/templates.ts'
import { bootstrapIdentity } from '../../src/source/bootstrap-recipe.ts'
import { imageSpec, lxcSpec, WHERE } from '../plan/spec.ts'
import { MemoryProxmox, PLACE, past, soon } from '../pve/memory-proxmox.ts'
import { putOurs } from '../pve/our-guest.ts'
import { aBuild } from './world.ts'

/** Known without any network. */
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

const state = (pve: MemoryProxmox, vmid: number) => fromTags(vmid, pve.tagsOf(vmid).join(';'))?.state

describe('an image whose current template has this digest', () => {
  test('is unchanged: nothing is written, no step is begun', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9000, 'current', { digest })
    const build = aBuild({ image }, pve)
    const row = { node: 'pve', vmid: 9000, name: 'web-20260101.9000', version: '20260101.9000', digest }
    expect(await buildImage(build)).toEqual({
      image: 'web',
      status: 'unchanged',
      held: false,
      templates: [row],
      template: row,
      seconds: expect.any(Number),
    })
    expect(pve.writes).toEqual([])
    expect(build.events).toEqual([])
  })
})

test('after a rollback the image is held: unchanged, with the digest of what is there', async () => {
  const pve = new MemoryProxmox()
  putOurs(pve, 9000, 'current', { digest: 'sha256:older', held: true })
  const result = await buildImage(aBuild({ image }, pve))
  expect(result).toMatchObject({
    status: 'unchanged',
    held: true,
    template: { vmid: 9000, digest: 'sha256:older' },
  })
  expect(pve.writes).toEqual([])
})

test('a finished candidate of an earlier run is promoted instead of built again', async () => {
  const pve = new MemoryProxmox()
  putOurs(pve, 9000, 'current', { digest: 'sha256:older' })
  putOurs(pve, 9001, 'candidate', { digest })
  const result = await buildImage(aBuild({ image }, pve))
  expect(result).toMatchObject({ status: 'built', template: { vmid: 9001, digest } })
  expect([state(pve, 9000), state(pve, 9001)]).toEqual(['previous', 'current'])
  // The claim is gone, too.
  expect([...pve.guests.keys()]).toEqual([9000, 9001])
})

test('what another runner finished while this one waited for the claim counts', async () => {
  const pve = new MemoryProxmox()
  pve.after = (call) => {
    if (call !== 'POST /nodes/pve/qemu') return
    pve.after = () => {}
    putOurs(pve, 9000, 'current', { digest })
  }
  expect(await buildImage(aBuild({ image }, pve))).toMatchObject({
    status: 'unchanged',
    template: { vmid: 9000 },
  })
  expect([...pve.guests.keys()]).toEqual([9000])
})

test('an image for another architecture than the node’s is refused before anything is written', async () => {
  const pve = new MemoryProxmox()
  const forArm = imageSpec({ source: { ...source, architecture: 'arm64' } })
  await expect(buildImage(aBuild({ image: forArm }, pve))).rejects.toMatchObject({
    code: 'definition_invalid',
    what: 'web is for arm64, and the node pve is amd64',
  })
  expect(pve.writes).toEqual([])
})

describe('a build whose guest never answers', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'imagebuild-build-'))
    await writeFile(join(folder, 'disk.qcow2'), 'not a disk')
  })
  afterEach(async () => {
    vi.restoreAllMocks()
    await rm(folder, { recursive: true })
  })

  /** of the whole build; nothing else has just this limit */
  const SECONDS = 4321

  /** Its time is over as soon as its guest runs, however long that took. */
  async function silent(pve: MemoryProxmox, onError: 'keep' | 'cleanup') {
    const { setTimeout: arm } = globalThis
    let deadline: (() => void) | undefined
    vi.spyOn(globalThis, 'setTimeout').mockImplementation(((call: () => void, milliseconds?: number) => {
      if (milliseconds === SECONDS * 1000) deadline = call
      return arm(call, milliseconds)
    }) as typeof setTimeout)
    const building = build(pve, onError)
    await expect.poll(() => [...pve.guests.values()].map(({ status }) => status)).toContain('running')
    const running = pauses.running.bind(pauses)
    vi.spyOn(pauses, 'running').mockImplementation(() => running() + SECONDS * 1000)
    deadline?.()
    return await building
  }

  const build = (pve: MemoryProxmox, onError: 'keep' | 'cleanup') =>
    buildImage(
      aBuild(
        {
          image: imageSpec({
            source: {
              kind: 'url',
              url: join(folder, 'disk.qcow2'),
              checksum: { algorithm: 'sha256', value: digestBytes('not a disk').slice('sha256:'.length) },
              format: 'qcow2',
              architecture: 'amd64',
              where: WHERE,
            },
            build: { bootTimeout: 6000, timeout: SECONDS },
          }),
          // Nothing listens on these addresses of the loopback network.
          place: {
            ...PLACE,
            addresses: { first: '127.99.0.1', last: '127.99.0.9', prefix: 8, gateway: '127.0.0.1' },
          },
          options: { force: false, noCache: false, onError, verify: 'off' },
          cacheDir: folder,
          keptDir: join(folder, 'kept'),
          ancestors: [],
          reportsDir: join(folder, 'builds'),
        },
        pve,
      ),
    ).catch((error) => error)

  test('ends with its time, and leaves nothing but the source', async () => {
    const pve = new MemoryProxmox()
    const error = await silent(pve, 'cleanup')
    expect(error).toMatchObject({
      what: `building web took longer than ${SECONDS} s`,
      next: expect.stringMatching(/build\.timeout/),
    })
    expect([...pve.guests.keys()]).toEqual([])
    expect(pve.isos()).toEqual([])
  })

  test('says how to get in, where the guest is kept', async () => {
    const pve = new MemoryProxmox()
    const error = await silent(pve, 'keep')
    expect(error).toMatchObject({
      what: `building web took longer than ${SECONDS} s`,
      next: expect.stringMatching(/ssh -i .* prune --kept/s),
    })
    expect([...pve.guests.keys()]).toEqual([9000])
    expect(state(pve, 9000)).toBe('kept')
    expect(pve.isos()).toHaveLength(1)
  })
})

test('missing privileges end it before anything is written', async () => {
  const pve = new MemoryProxmox()
  const client = pve.client()
  const refusal = new Error('a privilege is missing')
  const strict = { ...client, requirePrivileges: () => Promise.reject(refusal), withSignal: () => strict }
  await expect(buildImage(aBuild({ image, pve: strict }, pve))).rejects.toBe(refusal)
  expect(pve.writes).toEqual([])
})

test.each([
  [9, ['Sys.Modify']],
  [8, []],
])(
  'a privileged container on Proxmox VE %i needs of / before anything is written: %j',
  async (major, needed) => {
    const pve = new MemoryProxmox()
    const refusal = new Error('a privilege is missing')
    const asked: Need[] = []
    const strict: Pve = {
      ...pve.client(),
      version: { major, minor: 2, text: `${major}.2` },
      requirePrivileges: async (needs) => {
        asked.push(...needs)
        throw refusal
      },
      withSignal: () => strict,
    }
    const privileged = lxcSpec({ source, unprivileged: false })
    await expect(buildImage(aBuild({ image: privileged, pve: strict }, pve))).rejects.toBe(refusal)
    expect(pve.writes).toEqual([])
    expect(asked.filter(({ path }) => path === '/').flatMap(({ privileges }) => privileges)).toEqual(needed)
  },
)

describe('a rollback while two nodes are decided upon', () => {
  const places = [PLACE, { ...PLACE, node: 'b' }]
  let pve: MemoryProxmox
  beforeEach(() => {
    pve = new MemoryProxmox()
    for (const [first, node] of [
      [9000, 'pve'],
      [9010, 'b'],
    ] as const) {
      putOurs(pve, first, 'previous', { digest: 'sha256:1', version: '20260101.1', turn: 1 })
      putOurs(pve, first + 1, 'current', { digest: 'sha256:2', version: '20260102.1', turn: 2 })
      putOurs(pve, first + 2, 'candidate', { digest, version: '20260103.1' })
      for (const vmid of [first, first + 1, first + 2]) Object.assign(pve.guests.get(vmid) ?? {}, { node })
    }
  })
  const back = async (node: string, vmid: number) => {
    const found = (await nodeTemplates(pve.client(), node, 'homelab')).find((one) => one.vmid === vmid)
    if (found) await promote(pve.client(), found, { held: true })
  }

  test('that comes to the second one later: the build does not undo it', async () => {
    const onFirst = 'GET /nodes/pve/qemu/9001/config'
    const steps = new Map([
      [onFirst, () => back('pve', 9000)],
      // The claim.
      ['POST /nodes/pve/qemu', () => back('b', 9010)],
    ])
    pve.before = async (call) => {
      const step = steps.get(call)
      if (step === undefined || (call !== onFirst && steps.has(onFirst))) return
      steps.delete(call)
      await step()
    }
    const result = await buildImage(aBuild({ image, places }, pve))
    expect(result).toMatchObject({ held: true, templates: [{ vmid: 9000 }, { vmid: 9010 }] })
    expect([9000, 9010].map((vmid) => state(pve, vmid))).toEqual(['current', 'current'])
  })

  test('on both of them: the result is what is current', async () => {
    let isDone = false
    pve.before = async (call) => {
      if (isDone || call !== 'GET /nodes/pve/qemu/9001/config') return
      isDone = true
      await back('pve', 9000)
      await back('b', 9010)
    }
    const result = await buildImage(aBuild({ image, places }, pve))
    const templates = [
      { vmid: 9000, version: '20260101.1', digest: 'sha256:1' },
      { vmid: 9010, version: '20260101.1', digest: 'sha256:1' },
    ]
    expect(result).toMatchObject({ status: 'unchanged', held: true, templates })
  })
})

test('where a rollback was cut off between two nodes, that is told, and both are in the result', async () => {
  const pve = new MemoryProxmox()
  putOurs(pve, 9000, 'previous', { digest, version: '20260101.1', turn: 1 })
  putOurs(pve, 9001, 'current', { digest: 'sha256:newer', version: '20260102.1', turn: 2 })
  putOurs(pve, 9010, 'current', { digest, version: '20260101.1', turn: 3, held: true })
  putOurs(pve, 9011, 'previous', { digest: 'sha256:newer', version: '20260102.1', turn: 2 })
  for (const vmid of [9010, 9011]) Object.assign(pve.guests.get(vmid) ?? {}, { node: 'b' })
  const places = [PLACE, { ...PLACE, node: 'b' }]
  const build = aBuild({ image, places }, pve)
  expect(await buildImage(build)).toMatchObject({
    status: 'unchanged',
    held: true,
    templates: [
      { node: 'pve', vmid: 9001, version: '20260102.1', digest: 'sha256:newer' },
      { node: 'b', vmid: 9010, version: '20260101.1', digest },
    ],
  })
  expect(build.events).toContainEqual({
    type: 'warning',
    image: 'web',
    message: expect.stringContaining('not all nodes have 20260101.1') as string,
  })
})

describe('versions that are beyond, or beside, what is current', () => {
  const keep = { ...image, template: { ...image.template, keep: 1 } }

  test('a promotion that was cut off is finished by the next run, which builds nothing', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9000, 'current', { digest: 'sha256:older', turn: 1 })
    putOurs(pve, 9001, 'current', { digest, turn: 2 })
    expect(await buildImage(aBuild({ image }, pve))).toMatchObject({ status: 'unchanged' })
    expect([state(pve, 9000), state(pve, 9001)]).toEqual(['previous', 'current'])
  })

  test('what a run left that was killed once it had promoted goes with its claim', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9000, 'current', { digest: 'sha256:older', turn: 1 })
    putOurs(pve, 9001, 'current', { digest, turn: 2 })
    const claim = { vmid: 9900, namespace: 'homelab', image: 'web' } as const
    const leave = (expires: number) =>
      pve.put(9900, {
        tags: toTags({ ...claim, state: 'claim', expires }),
        description: renderNote({ schema: 1, ...claim, kind: 'vm', tool: '0', run: 'r', expires }),
      })
    leave(soon())
    expect(await buildImage(aBuild({ image: keep }, pve))).toMatchObject({ status: 'unchanged' })
    expect([...pve.guests.keys()].sort()).toEqual([9000, 9001, 9900])
    leave(past())
    expect(await buildImage(aBuild({ image: keep }, pve))).toMatchObject({ status: 'unchanged' })
    expect([...pve.guests.keys()]).toEqual([9001])
  })

  test('old versions go when a candidate is promoted', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 9000, 'current', { digest: 'sha256:older', turn: 1 })
    putOurs(pve, 9001, 'candidate', { digest })
    const result = await buildImage(aBuild({ image: keep }, pve))
    expect(result).toMatchObject({ status: 'built', held: false, template: { vmid: 9001 } })
    expect([...pve.guests.keys()]).toEqual([9001])
  })

  test('after a rollback while it was built, the result is kept and not current', async () => {
    const pve = new MemoryProxmox()
    putOurs(pve, 8999, 'previous', { digest: 'sha256:oldest', turn: 1 })
    putOurs(pve, 9000, 'current', { digest: 'sha256:older', turn: 2 })
    putOurs(pve, 9001, 'candidate', { digest })
    const build = aBuild({ image: keep }, pve)
    pve.before = async (call) => {
      // The claim: what is current has been read by now.
      if (call !== 'POST /nodes/pve/qemu') return
      pve.before = () => {}
      const templates = await nodeTemplates(pve.client(), 'pve', 'homelab')
      const back = templates.find(({ vmid }) => vmid === 8999)
      if (back) await promote(pve.client(), back, { held: true })
    }
    const result = await buildImage(build)
    // Who reads the result gets what is current.
    const current = { vmid: 8999, version: '20260101.8999', digest: 'sha256:oldest' }
    expect(result).toMatchObject({ status: 'built', held: true, template: current, templates: [current] })
    expect([8999, 9000, 9001].map((vmid) => state(pve, vmid))).toEqual(['current', 'previous', 'retired'])
    expect(build.events).toContainEqual(
      expect.objectContaining({
        type: 'warning',
        message: expect.stringContaining('imagebuild promote web@'),
      }),
    )
    expect(await buildImage(aBuild({ image: keep }, pve))).toMatchObject({ status: 'unchanged', held: true })
  })
})
