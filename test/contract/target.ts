import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { chooseAccelerator } from '../../src/lab/accelerator.ts'
import { type ApiOptions, type ApiServer, startApi } from '../../src/lab/api/server.ts'
import { LxcContainers } from '../../src/lab/containers/containers.ts'
import { DirStorage } from '../../src/lab/dir-storage.ts'
import { QemuMachines } from '../../src/lab/machines.ts'
import { labNames } from '../../src/lab/names.ts'
import { PoolStorage } from '../../src/lab/pool-storage.ts'
import { Client, type Reply } from './client.ts'

/** What the suite runs against: the lab's API over real storages and real QEMU, or a Proxmox that somebody lends. */
export interface Target {
  node: string
  /** file storage with iso, import and images */
  files: string
  /** storage with raw disks only; undefined where there is none */
  block: string | undefined
  /** file storage with room for 4 MiB, where one can be filled up */
  small: string | undefined
  /** another node of the cluster, with a `files` of its own; undefined where there is none */
  other: string | undefined
  /** file storage that both nodes share */
  shared: string | undefined
  bridge: string
  /** the bridge of this machine behind it, which who starts containers has to make; undefined: it is another's */
  linuxBridge: string | undefined
  /** the lab's list of appliances, which a test may write */
  appliances: string | undefined
  /** the lab, where no token can do what is tested: a root@pam ticket */
  root: Client | undefined
  /** the lab's certificate, PEM */
  ca: string | undefined
  /** a privileged token */
  client: Client
  /** true against the lab: clauses that need its inside, or that would disturb a real server */
  lab: boolean
  /** a VMID that nobody uses */
  vmid(): Promise<number>
  stop(): Promise<void>
}

/** first VMID that the suite uses */
const FIRST = Number(process.env.IMAGEBUILD_TEST_PVE_VMIDS ?? 990100)
const PASSWORD = 'contract-suite'

/** What a lab is told to get wrong; of a real server there is no such thing. */
export interface Faulty extends Pick<ApiOptions, 'faults' | 'pause'> {
  /** where `small` lies instead, which then has as much room as there is */
  smallRoot?: string
}

export async function startTarget(faulty?: Faulty): Promise<Target> {
  const url = process.env.IMAGEBUILD_TEST_PVE_URL
  return url === undefined ? startLab(faulty) : realTarget(url)
}

function counter(): () => Promise<number> {
  let next = FIRST
  return async () => next++
}

function realTarget(url: string): Target {
  const need = (name: string) => {
    const value = process.env[name]
    if (!value) throw new Error(`${name} must be set together with IMAGEBUILD_TEST_PVE_URL`)
    return value
  }
  const client = new Client(url, need('IMAGEBUILD_TEST_PVE_FINGERPRINT'), {
    token: need('IMAGEBUILD_TEST_PVE_TOKEN'),
  })
  return {
    node: process.env.IMAGEBUILD_TEST_PVE_NODE ?? 'pve',
    files: process.env.IMAGEBUILD_TEST_PVE_STORAGE ?? 'local',
    block: process.env.IMAGEBUILD_TEST_PVE_BLOCK_STORAGE,
    small: undefined,
    other: process.env.IMAGEBUILD_TEST_PVE_OTHER_NODE,
    shared: process.env.IMAGEBUILD_TEST_PVE_SHARED_STORAGE,
    bridge: process.env.IMAGEBUILD_TEST_PVE_BRIDGE ?? 'vmbr0',
    linuxBridge: undefined,
    appliances: undefined,
    root: undefined,
    ca: undefined,
    client,
    lab: false,
    vmid: counter(),
    stop: () => client.close(),
  }
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

async function startLab({ smallRoot, ...faulty }: Faulty = {}): Promise<Target> {
  const dir = await mkdtemp(join(tmpdir(), 'lab-contract-'))
  const local = new DirStorage({
    id: 'local',
    root: join(dir, 'local'),
    content: ['images', 'rootdir', 'iso', 'vztmpl', 'import', 'backup', 'snippets'],
  })
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
  const far = new DirStorage({ id: 'local', root: join(dir, 'far'), content: local.content })
  const shared = new DirStorage({
    id: 'nfs',
    root: join(dir, 'nfs'),
    content: ['images', 'rootdir', 'vztmpl'],
    shared: true,
  })
  await Promise.all([local, thin, small, far, shared].map((storage) => storage.open()))
  const machines = new QemuMachines({
    dir,
    names: labNames(dir),
    accelerator: await chooseAccelerator(),
    attach: async () => undefined,
  })
  await machines.open()
  const containers = new LxcContainers({
    dir,
    names: labNames(dir),
    bridge: () => labNames(dir).bridge,
    nameserver: '10.77.0.1',
  })
  await containers.open()
  const { fingerprint, ...tls } = await certificate(dir)
  const server: ApiServer = await startApi({
    ...{ host: '127.0.0.1', port: 0, tls, stateDir: join(dir, 'state'), machines, containers },
    nodes: [
      { name: 'lab', storages: [local, thin, small, shared] },
      { name: 'other', storages: [far, shared] },
    ],
    appliances: join(dir, 'appliances.dat'),
    bridges: [{ name: 'vmbr0', address: '10.77.0.1', cidr: '10.77.0.0/24' }],
    onActivity: () => undefined,
    resourceLag: 1,
    ...faulty,
  })
  const { tokens } = await server.provisionAccess({
    rootPassword: PASSWORD,
    users: [
      { userid: 'suite@pve', acl: [{ path: '/', role: 'Administrator' }], token: { id: 'all' } },
      { userid: 'nobody@pve', acl: [], token: { id: 'none' } },
    ],
  })
  const base = `https://127.0.0.1:${server.port}`
  const bare = new Client(base, fingerprint)
  const login = await bare.post('/access/ticket', { username: 'root@pam', password: PASSWORD })
  const { ticket, CSRFPreventionToken: csrf } = login.body.data as {
    ticket: string
    CSRFPreventionToken: string
  }
  const client = bare.as({ token: `suite@pve!all=${tokens['suite@pve!all']}` })
  const root = bare.as({ ticket, csrf })
  return {
    ...{
      node: 'lab',
      files: 'local',
      block: 'local-lvm',
      small: 'small',
      other: 'other',
      shared: 'nfs',
      bridge: 'vmbr0',
      linuxBridge: labNames(dir).bridge,
      appliances: join(dir, 'appliances.dat'),
      root,
      ca: tls.cert,
      client,
      lab: true,
      vmid: counter(),
    },
    async stop() {
      await Promise.all([bare.close(), client.close(), root.close()])
      await server.close()
      await Promise.all([machines.stopAll(), containers.stopAll()])
      await rm(dir, { recursive: true, force: true })
      await rm(labNames(dir).runtime, { recursive: true, force: true })
    },
  }
}

export interface Ended {
  exitstatus: string
  log: string[]
}

/** Waits for a task, or for the one that a reply names, on the node that its UPID names. */
export async function ended({ client }: Target, task: Reply | string): Promise<Ended> {
  const upid = typeof task === 'string' ? task : (task.body.data as string)
  if (typeof upid !== 'string') throw new Error(`no UPID: ${JSON.stringify(task)}`)
  const node = upid.split(':')[1]
  const path = `/nodes/${node}/tasks/${encodeURIComponent(upid)}`
  for (;;) {
    const status = (await client.get(`${path}/status`)).body.data as { status: string; exitstatus: string }
    if (status.status === 'stopped') {
      const lines = (await client.get(`${path}/log`, { limit: 500 })).body.data as { t: string }[]
      return { exitstatus: status.exitstatus, log: lines.map(({ t }) => t) }
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
