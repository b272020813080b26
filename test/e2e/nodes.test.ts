import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { access, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Event, TemplateRow } from '../../src/core/events.ts'
import { labStatus, stopLab } from '../../src/lab/lab.ts'
import { connect, type Pve } from '../../src/pve/client.ts'
import { debianArchive } from './debian-archive.ts'
import { LAB_DIR, makeProject, type Project, untilEvent } from './harness.ts'

/** A target with several nodes: a template on each, one version, and none counts before all are there. */

/** Of its own: it has nodes and a shared storage that the lab of the other tests has not. */
const DIR = `${LAB_DIR}-nodes`
const env = { IMAGEBUILD_LAB_DIR: DIR }

const CONFIG = `namespace: e2e
targets:
  one: { kind: lab }
  two: { kind: lab, nodes: [a, b] }
  nfs: { kind: lab, nodes: [a, b], storages: { disks: nfs, images: local } }
`
const STORAGES = [
  { id: 'local', type: 'dir', content: ['images', 'iso', 'vztmpl', 'import', 'rootdir'] },
  { id: 'nfs', type: 'dir', content: ['images', 'rootdir'], shared: true },
]

let project: Project
let pve: Pve | undefined
let source: string

beforeAll(async () => {
  await stopLab(DIR)
  await rm(DIR, { recursive: true, force: true })
  await mkdir(DIR, { recursive: true })
  await writeFile(join(DIR, 'config.json'), JSON.stringify({ storages: STORAGES }))
  const archive = await debianArchive()
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(archive)) hash.update(chunk)
  source = `source: { url: "file://${archive}", checksum: "sha256:${hash.digest('hex')}", format: tar.zst }`
  project = await makeProject({ 'imagebuild.yaml': CONFIG, ...define('echo first > /etc/made') })
})

afterAll(async () => {
  await pve?.[Symbol.asyncDispose]()
  await project?.[Symbol.asyncDispose]()
  await stopLab(DIR)
  await rm(DIR, { recursive: true, force: true })
})

function define(shell: string): Record<string, string> {
  return {
    'images/tiny/image.yaml': `name: tiny\nkind: lxc\n${source}\nhardening: none\nprovision:\n  - shell: ${shell}\n`,
  }
}

const run = (target: string, more: readonly string[] = [], verify = 'off') =>
  project.run(['tiny', '--target', target, ...more], { env: { ...env, IMAGEBUILD_VERIFY: verify } })

async function resolved(target: string, node?: string): Promise<number> {
  const on = node === undefined ? [] : ['--node', node]
  const { stdout } = await project.imagebuild(['resolve', 'tiny', '--target', target, ...on], { env })
  return Number(stdout)
}

async function outputs(target: string) {
  const { stdout } = await project.imagebuild(['outputs', '--format', 'json', '--target', target], { env })
  return JSON.parse(stdout).tiny
}

async function client(): Promise<Pve> {
  const status = await labStatus(DIR)
  if (!status.running) throw new Error('the lab does not run')
  pve ??= await connect({
    endpoint: status.endpoint,
    auth: { kind: 'token', token: status.token },
    tls: { fingerprint: status.fingerprint },
    signal: new AbortController().signal,
  })
  return pve
}

interface Row {
  vmid: number
  node: string
  name: string
  tags?: string
}

const guests = async () =>
  (await (await client()).api.cluster.resources.$get({ type: 'vm' })) as unknown as Row[]

/** Where something was created, as the events tell. */
const builtOn = (events: readonly Event[]) =>
  events.flatMap((event) => (event.type === 'step.start' && event.step === 'create' ? [event.node] : []))

const nodesOf = (rows: readonly TemplateRow[]) => rows.map(({ node }) => node)
const versionsOf = (rows: readonly TemplateRow[]) => [...new Set(rows.map(({ version }) => version))]

describe('a target with two nodes', () => {
  let first: TemplateRow[]

  test('takes them into a lab that runs already; what is there stays where it is', async () => {
    const { result, events } = await run('one')
    expect(nodesOf(result.templates)).toEqual(['lab'])
    // Of a single node nobody has to be told which one it is.
    expect(builtOn(events)).toEqual([undefined])
    const before = await labStatus(DIR)
    const listed = await project.imagebuild(['list', '--target', 'two', '--json'], { env })
    expect(JSON.parse(listed.stdout)).toEqual([])
    const after = await labStatus(DIR)
    expect(after).toMatchObject({ pid: (before as { pid: number }).pid, nodes: ['lab', 'a', 'b'] })
    expect((await guests()).map(({ node }) => node)).toEqual(['lab'])
  })

  test('gets a template on each, of one version, each verified by clones of its own', async () => {
    const { result, events, exitCode } = await run('two', [], 'full')
    expect([exitCode, result.status]).toEqual([0, 'built'])
    first = result.templates
    expect(nodesOf(first)).toEqual(['a', 'b'])
    expect(versionsOf(first)).toHaveLength(1)
    expect(result.template).toEqual(first[0])
    expect(builtOn(events).sort()).toEqual(['a', 'b'])
    const folder = join(project.root, '.imagebuild/builds/two/tiny', first[0]?.version ?? '')
    for (const [file, row] of [
      ['verify.json', first[0]],
      ['b/verify.json', first[1]],
    ] as const) {
      const report = JSON.parse(await readFile(join(folder, file), 'utf8'))
      expect(report.summary.failed).toBe(0)
      expect(report.template).toMatchObject({ node: row?.node, vmid: row?.vmid })
    }
    // Four clones at once: no two of them the same.
    const addresses = await Promise.all(
      ['verify.json', 'b/verify.json'].map(async (file) =>
        (JSON.parse(await readFile(join(folder, file), 'utf8')).clones as { address: string }[]).map(
          ({ address }) => address,
        ),
      ),
    )
    expect(new Set(addresses.flat()).size).toBe(4)
    await expect(access(join(folder, 'b', 'manifest.json'))).resolves.toBeUndefined()
  })

  test('is unchanged then, and tells the VMID of each node', async () => {
    const { result, events } = await run('two', [], 'full')
    expect(result).toMatchObject({ status: 'unchanged', templates: first })
    expect(builtOn(events)).toEqual([])
    const [a, b] = first.map(({ vmid }) => vmid)
    expect([await resolved('two'), await resolved('two', 'a'), await resolved('two', 'b')]).toEqual([a, a, b])
    expect(await outputs('two')).toMatchObject({ vmid: a, node: 'a', templates: { a, b } })
  })

  test('promotes nothing where one node fails; the next run builds what is missing', async () => {
    await project.write(define('sleep 8; echo second > /etc/made'))
    const building = project.imagebuild(['run', '--json', 'tiny', '--target', 'two'], { env })
    await untilEvent(
      building,
      (event) => event.type === 'step.start' && event.step === 'layer' && event.node === 'b',
    )
    const guest = (await guests()).find(({ node, tags }) => node === 'b' && tags?.includes('ib-building'))
    const { lxc } = (await client()).api.nodes.$('b')
    await (await client()).waitTask((await lxc.$(guest?.vmid ?? 0).status.stop.$post()) as string, {
      seconds: 60,
    })
    const { exitCode, stdout } = await building
    const failed = JSON.parse(stdout.trim().split('\n').at(-1) ?? '').results[0]
    expect(exitCode).toBe(1)
    expect(failed).toMatchObject({ status: 'failed', templates: [] })
    expect(failed.error.what).toMatch(/^on b: /)
    expect(failed.error.next).toContain('a has a finished one')
    expect([await resolved('two', 'a'), await resolved('two', 'b')]).toEqual(first.map(({ vmid }) => vmid))
    const candidates = (await guests()).filter(({ tags }) => tags?.includes('ib-candidate'))
    expect(candidates.map(({ node }) => node)).toEqual(['a'])
    expect((await guests()).filter(({ tags }) => /ib-(building|claim)/.test(tags ?? ''))).toEqual([])

    const { result, events } = await run('two')
    expect(builtOn(events)).toEqual(['b'])
    expect(events).toContainEqual(
      expect.objectContaining({
        type: 'info',
        message: expect.stringContaining('is finished on a: building it on b'),
      }),
    )
    expect(result.status).toBe('built')
    expect(nodesOf(result.templates)).toEqual(['a', 'b'])
    expect(result.templates[0]?.vmid).toBe(candidates[0]?.vmid)
    expect(versionsOf(result.templates)).toHaveLength(1)
    expect(versionsOf(result.templates)).not.toEqual(versionsOf(first))
    const now = result.templates.map(({ vmid }) => vmid)
    expect([await resolved('two', 'a'), await resolved('two', 'b')]).toEqual(now)
  })

  test('builds on a node alone that came later, the version that the others have', async () => {
    await project.write({ 'imagebuild.yaml': CONFIG.replace('nodes: [a, b] }', 'nodes: [a, b, lab] }') })
    const before = await run('two', [])
    // The one that was built there for another target is older: it is another version, and made of something else.
    expect(builtOn(before.events)).toEqual(['lab'])
    expect(nodesOf(before.result.templates)).toEqual(['a', 'b', 'lab'])
    expect(versionsOf(before.result.templates)).toHaveLength(1)
    await project.write({ 'imagebuild.yaml': CONFIG })
  })

  test('needs one template only where the disks lie on a storage that both see', async () => {
    await project.write({
      'imagebuild.yaml': CONFIG.replace('namespace: e2e', 'namespace: shared'),
    })
    const { result, events } = await run('nfs')
    expect(builtOn(events)).toEqual([undefined])
    expect(nodesOf(result.templates)).toEqual(['a'])
    const { vmid } = result.templates[0] as TemplateRow
    expect([await resolved('nfs', 'a'), await resolved('nfs', 'b')]).toEqual([vmid, vmid])
    expect(await outputs('nfs')).toMatchObject({ vmid, templates: { a: vmid, b: vmid } })
    // A consumer clones it to the other node.
    const { lxc } = (await client()).api.nodes.$('a')
    const upid = await lxc.$(vmid).clone.$post({ newid: 9500, full: true, target: 'b', hostname: 'mine' })
    await (await client()).waitTask(upid as string, { seconds: 120 })
    const far = (await client()).api.nodes.$('b').lxc.$(9500)
    expect((await far.config.$get()).hostname).toBe('mine')
    expect((await run('nfs')).result.status).toBe('unchanged')
    await project.write({ 'imagebuild.yaml': CONFIG })
  })
})
