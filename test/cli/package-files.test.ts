import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { PACKAGES, recordsFolder, sha256Of, writeRecord } from '../../src/build/records.ts'
import { reportsFolder } from '../../src/cli/folders.ts'
import { readLockfile } from '../../src/cli/lockfile.ts'
import { lockCurrent } from '../../src/cli/locking.ts'
import type { Event } from '../../src/core/events.ts'
import { MemoryProxmox } from '../pve/memory-proxmox.ts'
import { putTemplate } from '../pve/our-guest.ts'

const [V1, V2] = ['20260101.1', '20260102.1'] as const
const VMIDS = { pve: 9000, b: 9010, c: 9020 }
type Node = keyof typeof VMIDS

let root: string
let pve: MemoryProxmox
let events: Event[]
let calls: number
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'imagebuild-package-files-'))
  pve = new MemoryProxmox()
  events = []
  calls = 0
  pve.before = () => void calls++
})
afterEach(() => rm(root, { recursive: true, force: true }))

/** A current template whose note means this list, and the list itself, unless it was built elsewhere. */
async function built(version: string, text: string, { node = 'pve' as Node, isHere = true } = {}) {
  const artifacts = { [PACKAGES]: sha256Of(text) }
  putTemplate(pve, VMIDS[node], 'current', version, { node, digest: 'ab', note: { artifacts } })
  const folder = recordsFolder(reportsFolder(root, 'home'), 'web', version, node === 'pve' ? '' : node)
  if (isHere) await writeRecord(folder, PACKAGES, text)
}

async function lock(
  version: string,
  nodes: readonly Node[] = ['pve'],
  signal = new AbortController().signal,
) {
  const current = nodes.map((node) => ({ node, vmid: VMIDS[node], version, digest: 'ab' }))
  const by = { pve: pve.client(signal), target: 'home', root, signal }
  await lockCurrent({ ...by, emit: (event) => events.push(event) }, { name: 'web', kind: 'vm' }, current)
}

const folder = (target = 'home') => join(root, 'imagebuild.packages', target)
const file = (name: string) => join(folder(), name)
async function put(path: string, text: string) {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
}
/** All committed lists of the target. */
async function lists() {
  const names = await readdir(folder())
  const all = names.toSorted().map(async (name) => [name, await readFile(file(name), 'utf8')] as const)
  return Object.fromEntries(await Promise.all(all))
}
const warnings = () => events.map((event) => (event.type === 'warning' ? event.message : event))

test('the list of what is current lies beside the lockfile, readable for all', async () => {
  await built(V1, 'one')
  await lock(V1)
  expect(await lists()).toEqual({ 'web.txt': 'one' })
  expect((await stat(file('web.txt'))).mode & 0o777).toBe(0o644)
  expect((await readLockfile(root)).targets.home?.web?.version).toBe(V1)
  await built(V2, 'two')
  await lock(V2)
  expect(await lists()).toEqual({ 'web.txt': 'two' })
  expect(warnings()).toEqual([])
})

test('what is the same is not written, nor is the cluster asked', async () => {
  await built(V1, 'one')
  await lock(V1)
  const { ino } = await stat(file('web.txt'))
  calls = 0
  await lock(V1)
  expect(calls).toBe(0)
  await built(V2, 'one')
  await lock(V2)
  expect((await stat(file('web.txt'))).ino).toBe(ino)
})

test('a node whose packages are others has a list of its own', async () => {
  await built(V1, 'one')
  await built(V1, 'one', { node: 'b' })
  await built(V1, 'other', { node: 'c' })
  await lock(V1, ['pve', 'b', 'c'])
  expect(await lists()).toEqual({ 'web.txt': 'one', 'web@c.txt': 'other' })
  // It is gone when they are the same again.
  await built(V2, 'two')
  await built(V2, 'two', { node: 'c' })
  await lock(V2, ['pve', 'c'])
  expect(await lists()).toEqual({ 'web.txt': 'two' })
})

test('a list that is not current does not stay, also where nothing takes its place', async () => {
  await built(V1, 'one')
  await lock(V1)
  await built(V2, 'two', { isHere: false })
  await lock(V2)
  expect(await lists()).toEqual({})
  expect((await readLockfile(root)).targets.home?.web?.version).toBe(V2)
  expect(warnings()).toEqual([
    `imagebuild.packages/home/web.txt lacks the packages of web: the list of ${V2} is not here (sha256 ${sha256Of('two')}); imagebuild run web, where that was built, writes it`,
  ])
  // It is told once.
  await lock(V2)
  expect(events).toHaveLength(1)
})

test('nor does one of a version of which no list was ever written', async () => {
  await built(V1, 'one')
  await lock(V1)
  putTemplate(pve, VMIDS.pve, 'current', V2, { digest: 'ab' })
  await lock(V2)
  expect(await lists()).toEqual({})
  expect(warnings()).toEqual([
    expect.stringContaining(`${V2} was built by an imagebuild that wrote no list of them`),
  ])
})

test('a list that was committed elsewhere is believed by the note', async () => {
  await built(V2, 'two', { isHere: false })
  await put(file('web.txt'), 'two')
  await lock(V2)
  expect(await lists()).toEqual({ 'web.txt': 'two' })
  expect(warnings()).toEqual([])
})

test('where it was built, a list that is missing or wrong is written again', async () => {
  await built(V1, 'one')
  await lock(V1)
  for (const spoil of [() => rm(folder(), { recursive: true }), () => put(file('web.txt'), 'wrong')]) {
    await spoil()
    await lock(V1)
    expect(await lists()).toEqual({ 'web.txt': 'one' })
  }
})

test('who comes too late changes no list', async () => {
  await built(V1, 'one')
  await built(V2, 'two', { node: 'b' })
  await lock(V2, ['b'])
  // Somebody has promoted another one since.
  putTemplate(pve, VMIDS.pve, 'previous', V1, { note: { artifacts: { [PACKAGES]: sha256Of('one') } } })
  await lock(V1)
  expect(await lists()).toEqual({ 'web.txt': 'two' })
})

test('what another run was writing when it was cut off is removed, and what belongs to nobody', async () => {
  const unfinished = 'web.txt.4711-6f1f6a0e-0000-4000-8000-000000000000.new'
  await put(file(unfinished), 'on')
  await put(file('gone.txt'), 'of an image that nobody has any more')
  await put(file('gone@b.txt'), 'the same')
  await put(file('db.txt'), 'of an image that is not in the lockfile yet')
  await put(file('README.md'), 'of the user')
  await put(join(folder('other'), 'gone.txt'), 'of another target')
  await put(join(root, 'images/db/image.yaml'), 'name: db\n')
  await built(V1, 'one')
  await lock(V1)
  expect(Object.keys(await lists())).toEqual(['README.md', 'db.txt', 'web.txt'])
  expect(await readdir(folder('other'))).toEqual(['gone.txt'])
})

test('one that cannot be written is told, and fails nothing', async () => {
  await put(join(root, 'imagebuild.packages'), 'a file')
  await built(V1, 'one')
  await lock(V1)
  expect(warnings()).toEqual([expect.stringMatching(/is not up to date: .*(ENOTDIR|EEXIST)/)])
})
