import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { poll } from '../../src/core/scope.ts'
import { connect, type Pve } from '../../src/pve/client.ts'
import { type GuestKind, nodeGuests, readConfig } from '../../src/pve/guest-ref.ts'
import { type Marks, renderNote, toTags } from '../../src/pve/marks.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'
import { ownFile, ownPool } from './own.ts'
import { ended, startTarget, type Target } from './target.ts'
import { tinyArchive } from './tiny-archive.ts'

/**
 * What users make of our templates bears our tags and our note, and is theirs: over the wire, by the real commands, at
 * VMIDs of the target's own ranges.
 */

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts')
const signal = AbortSignal.timeout(600_000)
let target: Target
let pve: Pve
let archive: string
let guests: readonly number[]
let project: Awaited<ReturnType<typeof projectOnDisk>>

beforeAll(async () => {
  target = await startTarget()
  const { base, fingerprint, credentials } = target.client
  const auth = { kind: 'token', token: credentials.token ?? '' } as const
  pve = await connect({ endpoint: base, auth, tls: { fingerprint }, signal })
  const name = ownFile(target.own, 'users-tiny_1_amd64.tar.zst')
  const upload = await target.client.upload(`/nodes/${target.node}/storage/${target.files}/upload`, [
    ['content', 'vztmpl'],
    ['filename', { name, data: await tinyArchive() }],
  ])
  expect((await ended(target, upload)).exitstatus).toBe('OK')
  archive = `${target.files}:vztmpl/${name}`
  guests = await Promise.all(Array.from({ length: 20 }, () => target.vmid()))
  const [first, last] = [Math.min(...guests), Math.max(...guests)]
  const definition = (image: string, kind: GuestKind) =>
    `name: ${image}\nkind: ${kind}\nsource: { bootstrap: { distribution: debian, suite: trixie } }\ntemplate: { keep: 1 }\n`
  project = await projectOnDisk({
    'imagebuild.yaml': `
namespace: ${target.own.namespace}
targets:
  here:
    kind: pve
    endpoint: ${base}
    fingerprint: "${fingerprint}"
    node: ${target.node}
    storages: { disks: ${target.files}, images: ${target.files} }
    bridge: ${target.bridge}
    pool: ${ownPool(target.own)}
    addresses: { range: 192.0.2.100-192.0.2.119, prefix: 24, gateway: 192.0.2.1 }
    vmids: { templates: ${first}-${last - 4}, claims: ${last - 3}-${last} }
`,
    'images/web-vm/image.yaml': definition('web-vm', 'vm'),
    'images/web-lxc/image.yaml': definition('web-lxc', 'lxc'),
  })
})
afterAll(async () => {
  await pve?.[Symbol.asyncDispose]()
  await project?.[Symbol.asyncDispose]()
  await target?.stop()
})

const ref = (kind: GuestKind, vmid: number) => ({ kind, node: target.node, vmid })
const pathOf = (kind: GuestKind) => `/nodes/${target.node}/${kind === 'vm' ? 'qemu' : 'lxc'}`

async function imagebuild(...args: string[]) {
  const { stdout, stderr, exitCode } = await execa(process.execPath, [MAIN, ...args], {
    cwd: project.root,
    reject: false,
    stdin: 'ignore',
    env: {
      IMAGEBUILD_TARGET: 'here',
      PROXMOX_VE_API_TOKEN: target.client.credentials.token,
      NO_COLOR: '1',
    },
  })
  return { stdout, stderr, exitCode }
}

async function convert(kind: GuestKind, vmid: number): Promise<void> {
  const reply = await target.client.post(`${pathOf(kind)}/${vmid}/template`, {})
  expect(reply.status).toBe(200)
  // Of a container Proxmox names no task.
  if (kind === 'vm') expect((await ended(target, reply)).exitstatus).toBe('OK')
  await poll(async () => ((await readConfig(pve, ref(kind, vmid))).template ? true : undefined), { signal })
}

/** As a build leaves it. */
async function template(kind: GuestKind, vmid: number, marks: Pick<Marks, 'state' | 'version' | 'turn'>) {
  const image = `web-${kind}`
  const ours = { vmid, namespace: target.own.namespace, image }
  const hardware =
    kind === 'vm'
      ? { name: image, memory: 16, scsi0: `${target.files}:1` }
      : {
          hostname: image,
          memory: 64,
          ostemplate: archive,
          rootfs: `${target.files}:0.1`,
          ostype: 'unmanaged',
        }
  const { version } = marks as { version: string }
  const note = { schema: 1, ...ours, kind, tool: '0', run: 'r', version } as const
  const create = await target.client.post(pathOf(kind), {
    ...{ vmid, ...hardware },
    ...{ tags: toTags({ ...ours, ...marks }), description: renderNote(note) },
  })
  expect((await ended(target, create)).exitstatus).toBe('OK')
  await convert(kind, vmid)
}

async function clone(kind: GuestKind, from: number, newid: number): Promise<void> {
  const reply = await target.client.post(`${pathOf(kind)}/${from}/clone`, { newid, full: 1 })
  expect((await ended(target, reply)).exitstatus).toBe('OK')
  const [of, made] = await Promise.all([from, newid].map((vmid) => readConfig(pve, ref(kind, vmid))))
  // Else this would prove nothing.
  expect(made?.tags).toBe(of?.tags)
  expect(made?.description).toBe(of?.description)
}

// A dozen commands each.
describe.each(['vm', 'lxc'] as const)('of a template (%s)', { timeout: 300_000 }, (kind) => {
  const image = `web-${kind}`
  test('a clone, one made a template, and one whose template is gone: pruned by nobody, listed by nobody', async () => {
    const offset = kind === 'vm' ? 0 : 7
    const [old = 0, current = 0, machine = 0, own = 0, orphan = 0, ownOrphan = 0] = guests.slice(offset)
    // Also where claims are looked for.
    const inClaims = guests.at(kind === 'vm' ? -1 : -2) as number
    await template(kind, old, { state: 'previous', version: '20260101.1', turn: 1 })
    await template(kind, current, { state: 'current', version: '20260101.2', turn: 2 })
    for (const [from, to] of [
      [current, machine],
      [current, own],
      [old, orphan],
      [old, ownOrphan],
      [old, inClaims],
    ] as const)
      await clone(kind, from, to)
    for (const vmid of [own, ownOrphan]) await convert(kind, vmid)

    const pruned = await imagebuild('prune', '--kept')
    expect(pruned).toMatchObject({ exitCode: 0 })
    const label = kind === 'vm' ? 'VM' : 'CT'
    expect(pruned.stdout.split('\n')).toEqual([
      `removed version ${label} ${old} of ${image}: 20260101.1 is older than the version that is kept`,
    ])
    expect(await imagebuild('prune', '--kept')).toMatchObject({ stdout: '', exitCode: 0 })
    const users = [machine, own, orphan, ownOrphan, inClaims]
    const left = async () =>
      (await nodeGuests(pve, target.node))
        .map(({ vmid }) => vmid)
        .filter((vmid) => [...users, old].includes(vmid))
    expect((await left()).sort()).toEqual([...users].sort())

    const listed = JSON.parse((await imagebuild('list', '--json')).stdout) as {
      image: string
      vmid: number
    }[]
    expect(listed.filter((row) => row.image === image).map(({ vmid }) => vmid)).toEqual([current])
    const history = JSON.parse((await imagebuild('history', image, '--json')).stdout) as { version: string }[]
    expect(history.map(({ version }) => version)).toEqual(['20260101.2'])
    expect((await imagebuild('resolve', image)).stdout).toBe(`${current}`)
    expect(await imagebuild('resolve', `${image}@20260101.1`)).toMatchObject({ stdout: '', exitCode: 1 })
    expect(await imagebuild('rollback', image)).toMatchObject({ exitCode: 1 })

    // With the template itself gone, its copies are still nobody's but the user's.
    const gone = await target.client.delete(`${pathOf(kind)}/${current}`)
    expect((await ended(target, gone)).exitstatus).toBe('OK')
    expect(await imagebuild('resolve', image)).toMatchObject({ stdout: '', exitCode: 1 })
    expect(await imagebuild('promote', `${image}@20260101.2`)).toMatchObject({ exitCode: 1 })
    expect(await imagebuild('prune', '--kept')).toMatchObject({ stdout: '', exitCode: 0 })
    expect((await left()).sort()).toEqual([...users].sort())
  })
})
