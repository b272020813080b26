import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeFolder } from '../../../src/core/make-folder.ts'
import { startApi } from '../../../src/lab/api/server.ts'
import { certificate } from '../../../src/lab/certificate.ts'
import { LxcContainers } from '../../../src/lab/containers/containers.ts'
import { DirStorage } from '../../../src/lab/dir-storage.ts'
import { QemuMachines } from '../../../src/lab/machines.ts'
import { labNames } from '../../../src/lab/names.ts'
import { connect, type Pve } from '../../../src/pve/client.ts'

/** What each privilege on a storage shows of it, as Proxmox VE 8.4 and 9.2 have it (check_volume_access). */

const { signal } = new AbortController()
const VOLUMES = {
  iso: 'local:iso/seed.iso',
  disk: 'local:9001/vm-9001-disk-0.qcow2',
  backup: 'local:backup/vzdump-lxc-310-2026_11_20-16_01_52.tar.zst',
}
const IMPORT = 'local:import/disk.qcow2'
const ROLES = {
  space: ['Datastore.AllocateSpace'],
  audit: ['Datastore.Audit'],
  auditDisks: ['Datastore.Audit', 'VM.Config.Disk'],
  spaceDisks: ['Datastore.AllocateSpace', 'VM.Config.Disk'],
  spaceBackups: ['Datastore.AllocateSpace', 'VM.Backup'],
  template: ['Datastore.AllocateTemplate'],
  allocate: ['Datastore.Allocate', 'Datastore.AllocateSpace'],
} as const

let close: () => Promise<void>
let as: (role: keyof typeof ROLES) => Promise<Pve>

beforeAll(async () => {
  const dir = await mkdtemp(join(tmpdir(), 'lab-volumes-'))
  const local = new DirStorage({
    id: 'local',
    root: join(dir, 'local'),
    content: ['images', 'iso', 'backup', 'import'],
  })
  await local.open()
  expect((await local.createDisk(9001, 1 << 20, 'qcow2', () => undefined)).volid).toBe(VOLUMES.disk)
  for (const volid of [VOLUMES.iso, VOLUMES.backup]) {
    await makeFolder(dirname(local.path(volid)))
    await writeFile(local.path(volid), 'x')
  }
  await execa('qemu-img', ['create', '-f', 'qcow2', local.path(IMPORT), '16M'])
  const names = labNames(dir)
  const common = { dir, names }
  const { fingerprint, ...tls } = await certificate(dir, '127.0.0.1')
  const server = await startApi({
    ...{ host: '127.0.0.1', port: 0, tls, stateDir: join(dir, 'state'), bridges: [] },
    machines: new QemuMachines({ ...common, accelerator: 'tcg', attach: async () => undefined }),
    containers: new LxcContainers({ ...common, bridge: () => names.bridge, nameserver: '' }),
    nodes: [{ name: 'lab', storages: [local] }],
    onActivity: () => undefined,
  })
  const { tokens } = await server.provisionAccess({
    rootPassword: 'x',
    roles: Object.fromEntries(Object.entries(ROLES).map(([role, privileges]) => [role, [...privileges]])),
    users: Object.keys(ROLES).map((role) => ({
      userid: `${role.toLowerCase()}@pve`,
      acl: [{ path: '/', role }],
      token: { id: 't', privsep: false },
    })),
  })
  as = (role) => {
    const id = `${role.toLowerCase()}@pve!t`
    const auth = { kind: 'token', token: `${id}=${tokens[id]}` } as const
    return connect({ endpoint: `https://127.0.0.1:${server.port}`, auth, tls: { fingerprint }, signal })
  }
  close = async () => {
    await server.close()
    await rm(dir, { recursive: true })
  }
})
afterAll(() => close())

const storageOf = (pve: Pve) => pve.api.nodes.$('lab').storage.$('local')
const refusal = (work: Promise<unknown>) =>
  work.then(
    () => '',
    (error: Error) => error.message,
  )

describe('the list of a storage shows', () => {
  test.each([
    ['space', ['iso']],
    ['audit', ['iso']],
    ['auditDisks', ['disk', 'iso']],
    // A disk is not shown to those who may make others: its owner's storage must be theirs to audit.
    ['spaceDisks', ['iso']],
    ['spaceBackups', ['backup', 'iso']],
    ['allocate', ['backup', 'disk', 'iso']],
  ] as const)('to %s: %s', async (role, shown) => {
    await using pve = await as(role)
    const rows = (await storageOf(pve).content.$get()) as { volid: string }[]
    const names = Object.entries(VOLUMES).flatMap(([name, volid]) =>
      rows.some((row) => row.volid === volid) ? [name] : [],
    )
    expect(names.sort()).toEqual(shown)
    for (const [name, volid] of Object.entries(VOLUMES))
      expect((await refusal(storageOf(pve).content.$(volid).$get())) === '', name).toBe(
        (shown as readonly string[]).includes(name),
      )
  })

  test('nothing to those who may only upload to it', async () => {
    await using pve = await as('template')
    const needed = '(/storage/local, Datastore.Audit|Datastore.AllocateSpace)'
    expect(await refusal(storageOf(pve).content.$get() as Promise<unknown>)).toContain(needed)
    expect(await refusal(storageOf(pve).status.$get() as Promise<unknown>)).toContain(needed)
  })
})

test('how full it is, is shown to those who may allocate space there', async () => {
  await using pve = await as('space')
  expect(await storageOf(pve).status.$get()).toMatchObject({ avail: expect.any(Number) })
})

test('an image to import tells what a guest would see of it, and what has been written', async () => {
  await using pve = await as('space')
  expect(await storageOf(pve).content.$(IMPORT).$get()).toMatchObject({ size: 16 << 20, format: 'qcow2' })
  const rows = (await storageOf(pve).content.$get()) as { volid: string; size: number }[]
  expect(rows.find(({ volid }) => volid === IMPORT)?.size).toBeLessThan(1 << 20)
})

test('a volume that is not a backup is deleted with Datastore.Allocate alone', async () => {
  await using pve = await as('spaceDisks')
  for (const volid of [VOLUMES.disk, VOLUMES.iso])
    expect(await refusal(storageOf(pve).content.$(volid).$delete())).toContain(
      '(/storage/local, Datastore.Allocate)',
    )
  await using full = await as('allocate')
  expect(await refusal(storageOf(full).content.$(VOLUMES.iso).$delete())).toBe('')
})
