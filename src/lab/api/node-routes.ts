import { statfs } from 'node:fs/promises'
import { cpus, freemem, loadavg, release, totalmem, uptime, version } from 'node:os'
import { fetch } from 'undici'
import { chooseAccelerator } from '../accelerator.ts'
import { failure } from './errors.ts'
import { all } from './guests/all.ts'
import { boolean, formatted, integer, oneOf, optional, type Rules, string } from './parameters.ts'
import { type Call, type Check, get, type Lab, on, onAny, post, type Route } from './router.ts'

/** /nodes and what is the node's own. */

/** Who may make the node fetch something. */
export const MAY_FETCH: Check = {
  or: [on('/', 'Sys.Audit', 'Sys.Modify'), on('/nodes/{node}', 'Sys.AccessNetwork')],
}

export async function nodeRow(node: string): Promise<Record<string, unknown>> {
  const disk = await statfs('/')
  return {
    ...{ node, type: 'node', status: 'online', level: '', uptime: Math.floor(uptime()) },
    ...{ cpu: (loadavg()[0] ?? 0) / cpus().length, maxcpu: cpus().length },
    ...{ mem: totalmem() - freemem(), maxmem: totalmem() },
    ...{ disk: (disk.blocks - disk.bfree) * disk.bsize, maxdisk: disk.blocks * disk.bsize },
  }
}

async function nodeStatus({ lab }: Call): Promise<unknown> {
  const { pve } = lab
  const disk = await statfs('/')
  const cores = cpus()
  const hvm = (await chooseAccelerator()) === 'kvm' ? '1' : ''
  return {
    uptime: Math.floor(uptime()),
    loadavg: loadavg().map((load) => load.toFixed(2)),
    cpu: Math.min(1, (loadavg()[0] ?? 0) / cores.length),
    wait: 0,
    idle: 0,
    cpuinfo: {
      ...{ cpus: cores.length, cores: cores.length, sockets: 1, user_hz: 100, hvm, flags: '' },
      ...{ model: cores[0]?.model ?? '', mhz: String(cores[0]?.speed ?? 0) },
    },
    memory: { total: totalmem(), free: freemem(), used: totalmem() - freemem() },
    swap: { total: 0, free: 0, used: 0 },
    rootfs: {
      total: disk.blocks * disk.bsize,
      free: disk.bfree * disk.bsize,
      avail: disk.bavail * disk.bsize,
      used: (disk.blocks - disk.bfree) * disk.bsize,
    },
    ksm: { shared: 0 },
    kversion: `Linux ${release()} ${version()}`,
    'current-kernel': { sysname: 'Linux', release: release(), version: version(), machine: 'x86_64' },
    'boot-info': { mode: 'legacy-bios' },
    pveversion: `pve-manager/${pve.version.version}/${pve.version.repoid}`,
  }
}

function network(call: Call): unknown[] {
  const type = call.text('type')
  if (type !== undefined && !['bridge', 'any_bridge', 'any_local_bridge'].includes(type)) return []
  return call.lab.bridges
    .filter(
      ({ name }) =>
        call.allowed(`/sdn/zones/localnetwork/${name}`, ['SDN.Audit', 'SDN.Use'], true) || !call.caller.token,
    )
    .map(describeBridge)
}

function describeBridge({ name, address, cidr }: Lab['bridges'][number]): Record<string, unknown> {
  const bits = cidr.split('/')[1] ?? '24'
  return {
    ...{ iface: name, type: 'bridge', active: 1, autostart: 1, method: 'static', method6: 'manual' },
    ...{ address, netmask: bits, cidr: `${address}/${bits}`, families: ['inet'], priority: 3 },
    ...{ bridge_ports: '', bridge_stp: 'off', bridge_fd: '0' },
  }
}

async function queryUrl(call: Call): Promise<unknown> {
  refuseInsecure(call)
  const url = call.need('url')
  const response = await fetch(url, { method: 'HEAD' }).catch((error: Error) => {
    throw failure(`invalid server response: '500 ${error.message}'`)
  })
  if (!response.ok) throw failure(`invalid server response: '${response.status} ${response.statusText}'`)
  const size = response.headers.get('content-length')
  const disposition = /filename="?([^";]+)/.exec(response.headers.get('content-disposition') ?? '')?.[1]
  const filename = disposition ?? decodeURIComponent(new URL(response.url).pathname.split('/').at(-1) ?? '')
  const mimetype = response.headers.get('content-type')?.split(';')[0]
  return {
    filename,
    ...(size !== null && { size: Number(size) }),
    ...(mimetype !== undefined && { mimetype }),
  }
}

/** Proxmox can be told to skip the check of certificates; the lab never does. */
export function refuseInsecure(call: Call): void {
  if (!call.flag('verify-certificates', true)) throw failure('the lab always verifies certificates')
}

const ARCH: Rules = { arch: optional(oneOf('x86_64', 'aarch64')) }
const WORKERS: Rules = { 'max-workers': optional(integer({ minimum: 1, maximum: 64 })) }
const CPU_MODELS = ['host', 'max', 'kvm64', 'qemu64', 'x86-64-v2', 'x86-64-v2-AES', 'x86-64-v3', 'x86-64-v4']

export const NODE_ROUTES: readonly Route[] = [
  get('/nodes', 'all', {}, ({ lab }) =>
    Promise.all(
      [...lab.nodes.keys()].map(async (name) => ({
        ...{ id: `node/${name}`, ssl_fingerprint: lab.fingerprint },
        ...(await nodeRow(name)),
      })),
    ),
  ),
  get(
    '/nodes/{node}',
    'all',
    {},
    () =>
      [
        ...['aplinfo', 'capabilities', 'lxc', 'network', 'qemu', 'status', 'storage', 'tasks', 'version'],
        'vzdump',
      ].map((name) => ({ name })),
    { local: true },
  ),
  get('/nodes/{node}/status', on('/nodes/{node}', 'Sys.Audit'), {}, nodeStatus),
  get('/nodes/{node}/version', 'all', {}, ({ lab }) => lab.pve.version),
  get(
    '/nodes/{node}/network',
    'all',
    {
      type: optional(
        oneOf(
          ...[
            'bridge',
            'bond',
            'eth',
            'alias',
            'vlan',
            'OVSBridge',
            'OVSBond',
            'OVSPort',
            'OVSIntPort',
            'vnet',
          ],
          ...['any_bridge', 'any_local_bridge'],
        ),
      ),
    },
    network,
  ),
  get('/nodes/{node}/network/{iface}', onAny('/nodes/{node}', 'Sys.Audit'), {}, (call) => {
    const bridge = call.lab.bridges.find(({ name }) => name === call.need('iface'))
    if (!bridge) throw failure('interface does not exist')
    return describeBridge(bridge)
  }),
  get(
    '/nodes/{node}/query-url-metadata',
    MAY_FETCH,
    { url: string({ pattern: /^https?:\/\/.*/ }), 'verify-certificates': optional(boolean()) },
    queryUrl,
  ),
  get('/nodes/{node}/capabilities', 'all', {}, () => [{ name: 'qemu' }]),
  get('/nodes/{node}/capabilities/qemu', 'all', {}, () => [{ name: 'cpu' }, { name: 'machines' }]),
  get('/nodes/{node}/capabilities/qemu/cpu', 'all', ARCH, () =>
    CPU_MODELS.map((name) => ({ name, custom: 0, vendor: 'default' })),
  ),
  get('/nodes/{node}/capabilities/qemu/machines', 'all', ARCH, () => [
    { id: 'pc-i440fx-7.2', type: 'i440fx', version: '7.2' },
    { id: 'pc-q35-7.2', type: 'q35', version: '7.2' },
  ]),
  post(
    '/nodes/{node}/startall',
    'all',
    { ...WORKERS, force: optional(boolean()), vms: optional(formatted('vmid-list')) },
    (call) => all(call, 'start'),
  ),
  post(
    '/nodes/{node}/stopall',
    'all',
    {
      ...WORKERS,
      'force-stop': optional(boolean()),
      timeout: optional(integer({ minimum: 0, maximum: 7200 })),
      vms: optional(formatted('vmid-list')),
    },
    (call) => all(call, 'stop'),
  ),
]
