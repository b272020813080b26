import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { chooseAccelerator } from '../../src/lab/accelerator.ts'
import { type ApiOptions, startApi } from '../../src/lab/api/server.ts'
import { LxcContainers } from '../../src/lab/containers/containers.ts'
import { DirStorage } from '../../src/lab/dir-storage.ts'
import { QemuMachines } from '../../src/lab/machines.ts'
import { labNames } from '../../src/lab/names.ts'
import { PoolStorage } from '../../src/lab/pool-storage.ts'
import { Client } from './client.ts'
import { isDescendant } from './held-process.ts'
import type { Own } from './own.ts'
import type { Reached } from './target.ts'

const PASSWORD = 'contract-suite'
const OWN: Own = {
  namespace: 'imagebuild-contract',
  vmids: { first: 990100, last: 990399 },
  tagRules: true,
}

/** A self-signed certificate, as the lab's daemon makes one. */
export async function certificate(dir: string): Promise<{ key: string; cert: string; fingerprint: string }> {
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  await execa('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=lab', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert],
  ])
  const pem = await readFile(cert, 'utf8')
  return { key: await readFile(key, 'utf8'), cert: pem, fingerprint: new X509Certificate(pem).fingerprint256 }
}

async function storagesIn(dir: string, smallRoot: string | undefined) {
  const content = ['images', 'rootdir', 'iso', 'vztmpl', 'import', 'backup', 'snippets'] as const
  const local = new DirStorage({ id: 'local', root: join(dir, 'local'), content })
  const thin = new PoolStorage('lvmthin', {
    id: 'local-lvm',
    root: join(dir, 'thin'),
    content: ['images', 'rootdir'],
  })
  const small = new DirStorage({
    id: 'small',
    root: smallRoot ?? join(dir, 'small'),
    content: ['images', 'iso', 'import'],
    ...(smallRoot === undefined && { limit: 4 << 20 }),
  })
  const far = new DirStorage({ id: 'local', root: join(dir, 'far'), content })
  const shared = new DirStorage({
    id: 'nfs',
    root: join(dir, 'nfs'),
    content: ['images', 'rootdir', 'vztmpl'],
    shared: true,
  })
  await Promise.all([local, thin, small, far, shared].map((storage) => storage.open()))
  return { local, thin, small, far, shared }
}

/** What a lab is told to play, and to get wrong. */
export interface Played extends Pick<ApiOptions, 'faults' | 'pause' | 'pve'> {
  /** where `small` lies instead, which then has as much room as there is */
  smallRoot?: string
}

/** A lab of its own for each file, in a folder that goes when it is closed, or when it does not start. */
export async function startLab({ smallRoot, ...played }: Played = {}): Promise<Reached> {
  await using owned = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'lab-contract-'))
  owned.defer(() => rm(dir, { recursive: true, force: true }))
  const names = labNames(dir)
  owned.defer(() => rm(names.runtime, { recursive: true, force: true }))
  const { local, thin, small, far, shared } = await storagesIn(dir, smallRoot)
  const accelerator = await chooseAccelerator()
  const machines = new QemuMachines({ dir, names, accelerator, attach: async () => undefined })
  owned.defer(() => machines.stopAll())
  await machines.open()
  const containers = new LxcContainers({
    dir,
    names,
    bridge: () => names.bridge,
    nameserver: '10.77.0.1',
  })
  owned.defer(() => containers.stopAll())
  await containers.open()
  const { fingerprint, ...tls } = await certificate(dir)
  const server = await startApi({
    ...{ host: '127.0.0.1', port: 0, tls, stateDir: join(dir, 'state'), machines, containers },
    nodes: [
      { name: 'lab', storages: [local, thin, small, shared] },
      { name: 'other', storages: [far, shared] },
    ],
    appliances: join(dir, 'appliances.dat'),
    bridges: [{ name: 'vmbr0', address: '10.77.0.1', cidr: '10.77.0.0/24' }],
    onActivity: () => undefined,
    resourceLag: 1,
    ...played,
  })
  owned.defer(() => server.close())
  const { tokens } = await server.provisionAccess({
    rootPassword: PASSWORD,
    users: [{ userid: 'suite@pve', acl: [{ path: '/', role: 'Administrator' }], token: { id: 'all' } }],
  })
  const bare = new Client(`https://127.0.0.1:${server.port}`, fingerprint, {}, OWN)
  owned.defer(() => bare.close())
  const login = await bare.post('/access/ticket', { username: 'root@pam', password: PASSWORD })
  const { ticket, CSRFPreventionToken: csrf } = login.body.data as {
    ticket: string
    CSRFPreventionToken: string
  }
  const client = bare.as({ token: `suite@pve!all=${tokens['suite@pve!all']}` })
  const root = bare.as({ ticket, csrf })
  for (const one of [client, root]) owned.defer(() => one.close())
  const stack = owned.move()
  return {
    ...{ own: OWN, client, root, node: 'lab', files: 'local', block: 'local-lvm', small: 'small' },
    ...{ other: 'other', shared: 'nfs', nodes: ['lab', 'other'], bridge: 'vmbr0' },
    storages: ['local', 'local-lvm', 'small', 'nfs'],
    linuxBridge: names.bridge,
    appliances: join(dir, 'appliances.dat'),
    web: '127.0.0.1',
    consoles: true,
    processes: true,
    isProcessOf: (_vmid, found) => isDescendant(found),
    lab: true,
    certificate: tls.cert,
    close: () => stack.disposeAsync(),
  }
}
