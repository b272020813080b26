import { cpus } from 'node:os'
import type { ContainerInterface, ContainerStatus } from '../../world.ts'
import { failure } from '../errors.ts'
import { parseSize } from '../guests/drives.ts'
import { checkUnchanging } from '../guests/status.ts'
import type { Guest } from '../guests/store.ts'
import type { Call } from '../router.ts'
import { DEFAULT_MEMORY, DEFAULT_SWAP, hostnameOf } from './spec.ts'
import { parseRoot } from './values.ts'

const MIB = 1024 ** 2

export function summary(guest: Guest, status: ContainerStatus): Record<string, unknown> {
  const { vmid, config } = guest
  const size = config.rootfs === undefined ? undefined : parseRoot(config.rootfs).size
  const { running } = status
  return {
    vmid,
    type: 'lxc',
    name: hostnameOf(vmid, config),
    status: running ? 'running' : 'stopped',
    cpus: config.cores ?? cpus().length,
    cpu: 0,
    mem: running ? status.mem : 0,
    maxmem: Number(config.memory ?? DEFAULT_MEMORY) * MIB,
    swap: 0,
    maxswap: Number(config.swap ?? DEFAULT_SWAP) * MIB,
    disk: running ? status.disk : 0,
    maxdisk: size === undefined ? 0 : parseSize(size),
    uptime: running ? status.uptime : 0,
    netin: running ? status.netin : 0,
    netout: running ? status.netout : 0,
    diskread: 0,
    diskwrite: 0,
    ...(status.pid !== undefined && { pid: status.pid }),
    ...(config.tags !== undefined && { tags: config.tags }),
    ...(config.template === 1 && { template: 1 }),
    ...(config.lock !== undefined && { lock: config.lock }),
  }
}

/** GET …/status/current */
export async function current(call: Call): Promise<unknown> {
  const { guest, lab } = call
  if (lab.postStop.breaksStatus(guest.vmid)) {
    throw failure('failed to read from command socket: Connection reset by peer')
  }
  return { ...summary(guest, await lab.containers.status(guest.vmid)), ha: { managed: 0 } }
}

/** GET /nodes/{node}/lxc */
export async function listContainers(call: Call): Promise<unknown[]> {
  const { lab } = call
  checkUnchanging(lab, 'lxc')
  const visible = lab.guests.all('lxc').filter(({ vmid }) => call.allowed(`/vms/${vmid}`, ['VM.Audit']))
  return Promise.all(visible.map(async (guest) => summary(guest, await lab.containers.status(guest.vmid))))
}

/** GET …/interfaces: null for a container that does not run */
export async function interfaces(call: Call): Promise<unknown> {
  const { guest, lab } = call
  if (!(await lab.containers.status(guest.vmid)).running) return null
  return (await lab.containers.interfaces(guest.vmid)).map(describe)
}

function describe({ name, mac, addresses }: ContainerInterface): Record<string, unknown> {
  const first = (family: 'inet' | 'inet6') => {
    const found = addresses.find((address) => address.family === family)
    return found && { [family]: `${found.address}/${found.prefix}` }
  }
  return {
    name,
    hwaddr: mac,
    'hardware-address': mac,
    ...first('inet'),
    ...first('inet6'),
    'ip-addresses': addresses.map(({ family, address, prefix }) => ({
      'ip-address': address,
      'ip-address-type': family,
      prefix: String(prefix),
    })),
  }
}
