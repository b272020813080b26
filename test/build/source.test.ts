import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Build } from '../../src/build/context.ts'
import { placeSource } from '../../src/build/placement.ts'
import { decideSource, describeSource, type SourceRecord } from '../../src/build/source.ts'
import type { SourceSpec } from '../../src/definition/spec.ts'
import { sourceRequest } from '../../src/plan/plan.ts'
import { renderNote, toTags } from '../../src/pve/marks.ts'
import { bootstrapIdentity, recipeFor } from '../../src/source/bootstrap-recipe.ts'
import type { SourceContext } from '../../src/source/context.ts'
import { imageSpec, WHERE } from '../plan/spec.ts'
import { MemoryProxmox } from '../pve/memory-proxmox.ts'
import { aBuild } from './world.ts'

const HEX = 'ab'.repeat(64)
const VERSION = '20251112-2294'
const RELEASE = {
  kind: 'release',
  release: 'debian/12',
  fallback: false,
  architecture: 'amd64',
  where: WHERE,
} as const
const RECIPE = recipeFor('debian/12', 'amd64')
const BOOTSTRAPPED = RECIPE ? bootstrapIdentity(RECIPE) : ''

let folder: string
let server: Server
/** path → what the mirror has there */
let mirror: Record<string, string>
let asked: string[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-source-'))
  asked = []
  mirror = {
    '/bookworm/': `<a href="${VERSION}/">x</a>`,
    [`/bookworm/${VERSION}/SHA512SUMS`]: `${HEX}  debian-12-generic-amd64-${VERSION}.qcow2\n`,
    '/releases/noble/': '<a href="release-20251112/">x</a>',
  }
  server = createServer((request, response) => {
    asked.push(request.url ?? '')
    const text = mirror[request.url ?? '']
    response.writeHead(text === undefined ? 404 : 200).end(text)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})

afterEach(async () => {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  await rm(folder, { recursive: true })
})

function context(): SourceContext {
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { cacheDir: folder, signal: new AbortController().signal, baseUrls: { debian: base, ubuntu: base } }
}

function build(source: SourceSpec, change: Partial<Build> = {}, pve?: MemoryProxmox) {
  return aBuild({ image: imageSpec({ source }), ...change }, pve)
}

const known = (change: Partial<SourceRecord> = {}): SourceRecord => ({
  request: sourceRequest(RELEASE),
  identity: `sha512:${HEX}`,
  version: VERSION,
  fallback: false,
  ...change,
})

const options = { force: false, noCache: false, onError: 'cleanup', verify: 'off' } as const
const looking = { options: { ...options, lookUpstream: true } }
const forced = { options: { ...options, force: true } }

describe('a release', () => {
  test('is one dated file with its checksum', async () => {
    const decision = await decideSource(build(RELEASE), undefined, context())
    expect(decision).toMatchObject({
      record: known(),
      from: { kind: 'file', file: { version: VERSION, checksum: { algorithm: 'sha512', value: HEX } } },
    })
    expect(describeSource(decision)).toBe(`fetching release debian/12 amd64, version ${VERSION}`)
  })

  test('of many images that are looked at together is asked for once, also where it cannot be reached', async () => {
    const releases = new Map()
    const look = () => decideSource(build(RELEASE, { releases }), known(), context())
    const decisions = await Promise.all([look(), look(), look()])
    expect(decisions.map(({ from }) => from.kind)).toEqual(['file', 'file', 'file'])
    expect(asked).toEqual([...new Set(asked)])
    releases.clear()
    mirror = {}
    const before = asked.length
    expect((await Promise.all([look(), look()])).map(({ from }) => from.kind)).toEqual([
      'unavailable',
      'unavailable',
    ])
    expect(asked.slice(before)).toEqual([...new Set(asked.slice(before))])
  })

  test('that cannot be reached is an error with a way out', async () => {
    mirror = {}
    const error = await decideSource(build(RELEASE), undefined, context()).catch((error) => error)
    expect(error).toMatchObject({ code: 'unreachable', exitCode: 69, where: WHERE })
    expect(error.next).toContain('fallback: bootstrap')
  })

  test('that cannot be reached is bootstrapped where the definition says so, loudly, and the note says it', async () => {
    mirror = {}
    const one = build({ ...RELEASE, fallback: true })
    const decision = await decideSource(one, undefined, context())
    expect(decision.record).toEqual({
      request: sourceRequest(RELEASE),
      identity: BOOTSTRAPPED,
      version: 'bookworm',
      fallback: true,
    })
    expect(decision.from).toEqual({ kind: 'bootstrap', recipe: RECIPE })
    expect(one.events).toHaveLength(1)
    expect(one.events[0]).toMatchObject({ type: 'warning', image: 'web' })
    expect(JSON.stringify(one.events)).toContain('FALLING BACK')
  })

  test('that cannot be reached, and is known from before, stays what it was, with a warning', async () => {
    mirror = {}
    const one = build(RELEASE)
    const decision = await decideSource(one, known(), context())
    expect(decision.record).toEqual(known())
    expect(decision.from.kind).toBe('unavailable')
    expect(one.events).toMatchObject([{ type: 'warning', image: 'web' }])
    // Enough for `unchanged`; there is nothing to build from.
    await expect(placeSource(one, decision, context())).rejects.toMatchObject({ code: 'unreachable' })
  })

  test('that is asked for anew is not what it was before', async () => {
    mirror = {}
    const other = known({ request: 'release debian/13 amd64' })
    await expect(decideSource(build(RELEASE), other, context())).rejects.toMatchObject({
      code: 'unreachable',
    })
  })

  test('once bootstrapped stays so: an upstream that comes and goes does not rebuild it', async () => {
    const record = known({ identity: BOOTSTRAPPED, version: 'bookworm', fallback: true })
    const decision = await decideSource(build({ ...RELEASE, fallback: true }), record, context())
    expect(decision).toEqual({ record, from: { kind: 'bootstrap', recipe: RECIPE } })
    expect(asked).toEqual([])
  })

  test('once bootstrapped stays so where a schedule finds upstream out of reach, and says it', async () => {
    mirror = {}
    const record = known({ identity: BOOTSTRAPPED, version: 'bookworm', fallback: true })
    const one = build({ ...RELEASE, fallback: true }, looking)
    expect((await decideSource(one, record, context())).record).toEqual(record)
    expect(asked.length).toBeGreaterThan(0)
    expect(one.events).toMatchObject([
      { type: 'warning', message: expect.stringMatching(/still cannot be reached .*; staying with/) },
    ])
  })

  test.each<[string, Partial<Build>, Partial<SourceSpec>, Partial<SourceRecord>]>([
    ['--force is given', forced, {}, {}],
    ['a schedule looks upstream', looking, {}, {}],
    ['the definition asks for something else', {}, {}, { request: 'release debian/13 amd64' }],
    ['the recipe is another one by now', {}, {}, { identity: 'sha256:before' }],
    ['the definition allows it no longer', {}, { fallback: false } as Partial<SourceSpec>, {}],
  ])('goes back to the cloud image when %s', async (_when, change, source, record) => {
    const before = known({ identity: BOOTSTRAPPED, version: 'bookworm', fallback: true, ...record })
    const spec = { ...RELEASE, fallback: true, ...source } as SourceSpec
    const decision = await decideSource(build(spec, change), before, context())
    expect(decision.record).toEqual(known())
  })

  test('whose list does not have it is an error, never a reason to fall back', async () => {
    mirror[`/bookworm/${VERSION}/SHA512SUMS`] = `${HEX}  something-else.qcow2\n`
    const one = build({ ...RELEASE, fallback: true })
    await expect(decideSource(one, known(), context())).rejects.toMatchObject({ code: 'build_failed' })
    expect(one.events).toEqual([])
  })

  test.each([
    ['not signed', undefined],
    ['signed by nobody', 'no signature at all'],
  ])('whose list is %s is an error, never a reason to fall back', async (_how, signature) => {
    mirror['/releases/noble/release-20251112/SHA256SUMS'] =
      `${'ab'.repeat(32)} *ubuntu-24.04-server-cloudimg-amd64.img\n`
    if (signature !== undefined) mirror['/releases/noble/release-20251112/SHA256SUMS.gpg'] = signature
    const one = build({ ...RELEASE, release: 'ubuntu/24.04', fallback: true })
    const error = await decideSource(one, undefined, context()).catch((error) => error)
    expect(error).toMatchObject({ code: 'build_failed' })
    expect(one.events).toEqual([])
  })

  test('whose resolution is interrupted gives the reason, and does not fall back', async () => {
    const controller = new AbortController()
    const reason = new Error('Ctrl-C')
    controller.abort(reason)
    const one = build({ ...RELEASE, fallback: true })
    await expect(decideSource(one, known(), { ...context(), signal: controller.signal })).rejects.toBe(reason)
    expect(one.events).toEqual([])
  })
})

describe('other sources', () => {
  test('a url is known by its checksum, wherever it lies; nothing is asked', async () => {
    const checksum = { algorithm: 'sha256', value: 'ab'.repeat(32) } as const
    const at = (url: string) =>
      decideSource(
        build({ kind: 'url', url, checksum, format: 'qcow2', architecture: 'amd64', where: WHERE }),
        undefined,
        context(),
      )
    const [one, two] = await Promise.all([at('https://a.example/x.qcow2'), at('https://b.example/y.qcow2')])
    expect(one?.record).toEqual(two?.record)
    expect(one?.record.identity).toBe(`sha256:${checksum.value}`)
    expect(one?.from).toMatchObject({
      kind: 'file',
      file: { url: 'https://a.example/x.qcow2', checksum, format: 'qcow2' },
    })
    expect(asked).toEqual([])
  })

  test('a bootstrap is known by its recipe', async () => {
    const source: SourceSpec = {
      kind: 'bootstrap',
      distribution: 'debian',
      suite: 'trixie',
      packages: ['curl'],
      architecture: 'amd64',
      where: WHERE,
    }
    const decision = await decideSource(build(source), undefined, context())
    const recipe = { distribution: 'debian', suite: 'trixie', arch: 'amd64', packages: ['curl'] } as const
    expect(decision.from).toEqual({ kind: 'bootstrap', recipe })
    expect(decision.record).toMatchObject({
      identity: bootstrapIdentity(recipe),
      version: 'trixie',
      fallback: false,
    })
    expect(describeSource(decision)).toBe('bootstrapping debian trixie from packages')
  })

  test('a parent is its current template, known by its digest', async () => {
    const pve = new MemoryProxmox()
    const marks = {
      vmid: 9000,
      namespace: 'homelab',
      image: 'base',
      state: 'current',
      version: '20260101.1',
    } as const
    const note = {
      schema: 1,
      vmid: 9000,
      namespace: 'homelab',
      image: 'base',
      kind: 'vm',
      tool: '0',
      run: 'r',
      version: '20260101.1',
    } as const
    pve.put(9000, {
      name: 'base-1',
      tags: toTags(marks),
      template: 1,
      description: renderNote({ ...note, digest: 'sha256:parent' }),
    })
    const child = build({ kind: 'image', image: 'base', architecture: 'amd64', where: WHERE }, {}, pve)
    const decision = await decideSource(child, undefined, context())
    expect(decision.record).toMatchObject({
      request: 'image base',
      identity: 'sha256:parent',
      version: '20260101.1',
    })
    expect(await placeSource(child, decision, context())).toMatchObject({
      kind: 'template',
      template: { node: 'pve', vmid: 9000 },
    })
    expect(pve.writes).toEqual([])
  })

  test('a parent that is not there says which command builds it', async () => {
    const child = build({ kind: 'image', image: 'base', architecture: 'amd64', where: WHERE })
    await expect(decideSource(child, undefined, context())).rejects.toMatchObject({
      code: 'not_found',
      where: WHERE,
      next: 'imagebuild run base',
    })
  })
})

describe('placing a file on the storage', () => {
  /** A raw disk beside the definition, with its checksum. */
  async function file(pve: MemoryProxmox, change: Partial<Build> = {}) {
    const path = join(folder, 'disk.raw')
    await writeFile(path, Buffer.alloc(4096, 'x'))
    const value = createHash('sha256').update(Buffer.alloc(4096, 'x')).digest('hex')
    const checksum = { algorithm: 'sha256', value } as const
    const one = build(
      { kind: 'url', url: `file://${path}`, checksum, format: 'raw', architecture: 'amd64', where: WHERE },
      change,
      pve,
    )
    return { one, checksum, decision: await decideSource(one, undefined, context()) }
  }

  const uploads = (pve: MemoryProxmox) => pve.writes.filter((call) => call.startsWith('upload'))

  test('uploads it under a name made of its digest', async () => {
    const pve = new MemoryProxmox()
    const { one, decision, checksum } = await file(pve)
    const name = `ib-source-${checksum.value.slice(0, 32)}-mine.raw`
    expect(await placeSource(one, decision, context())).toEqual({
      kind: 'volume',
      volid: `local:import/${name}`,
    })
    expect(uploads(pve)).toEqual([`upload ${name}`])
  })

  test('uploads it once: what is there, and complete, is taken', async () => {
    const pve = new MemoryProxmox()
    const { one, decision, checksum } = await file(pve)
    const volid = `local:import/ib-source-${checksum.value.slice(0, 32)}.raw`
    pve.files.push({ volid, size: 4096, ctime: 0, content: 'import' })
    expect(await placeSource(one, decision, context())).toEqual({ kind: 'volume', volid })
    expect(uploads(pve)).toEqual([])
  })

  test('uploads it again where a list has no sizes: it may be half of the file', async () => {
    const pve = new MemoryProxmox()
    const { one, decision, checksum } = await file(pve)
    const volid = `local:import/ib-source-${checksum.value.slice(0, 32)}.raw`
    pve.files.push({ volid, ctime: 0, content: 'import' })
    await placeSource(one, decision, context())
    expect(uploads(pve)).toHaveLength(1)
  })

  test('does not write into a file that another run is still copying', async () => {
    const pve = new MemoryProxmox()
    const { one, decision, checksum } = await file(pve)
    const stem = `local:import/ib-source-${checksum.value.slice(0, 32)}`
    pve.files.push({ volid: `${stem}.raw`, size: 100, ctime: 0, content: 'import' })
    expect(await placeSource(one, decision, context())).toEqual({ kind: 'volume', volid: `${stem}-mine.raw` })
  })

  test('an upload that fails in its task is an error', async () => {
    const pve = new MemoryProxmox()
    const { one, decision } = await file(pve)
    pve.work = async () => 'no space left on device'
    await expect(placeSource(one, decision, context())).rejects.toMatchObject({
      code: 'busy',
      why: 'no space left on device',
    })
  })

  test('a file with another checksum never gets there', async () => {
    const pve = new MemoryProxmox()
    const { one, decision } = await file(pve)
    await writeFile(join(folder, 'disk.raw'), Buffer.alloc(4096, 'y'))
    await expect(placeSource(one, decision, context())).rejects.toMatchObject({ code: 'build_failed' })
    expect(uploads(pve)).toEqual([])
  })
})
