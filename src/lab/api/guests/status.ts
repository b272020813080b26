import type { MachineStatus } from '../../world.ts'
import { parseProperties } from '../property-string.ts'
import type { Call, Lab } from '../router.ts'
import { bootOrder, drivesOf, isCdrom, parseSize } from './drives.ts'
import { agentEnabled, cpusOf, memoryOf } from './machine-spec.ts'
import { AGENT_FORMAT } from './options.ts'
import { type Guest, type GuestConfig, type GuestType, notThere } from './store.ts'

const MIB = 1024 ** 2

/** Size of the disk that the guest boots from, or of its first. */
function bootDiskSize(config: GuestConfig): number {
  const drives = drivesOf(config).filter(
    ([slot, drive]) => !isCdrom(drive) && !/^(efidisk|tpmstate)/.test(slot),
  )
  const order = bootOrder(config)
  const [, drive] =
    drives.find(([slot]) => slot === order.find((device) => drives.some(([s]) => s === device))) ??
    drives[0] ??
    []
  return drive?.size === undefined ? 0 : parseSize(drive.size)
}

export function summary(guest: Guest, status: MachineStatus): Record<string, unknown> {
  const { vmid, config } = guest
  return {
    vmid,
    name: config.name ?? `VM ${vmid}`,
    status: status.running ? 'running' : 'stopped',
    cpus: cpusOf(config),
    cpu: 0,
    mem: status.running ? status.mem : 0,
    maxmem: memoryOf(config) * MIB,
    disk: 0,
    maxdisk: bootDiskSize(config),
    uptime: status.running ? status.uptime : 0,
    netin: status.running ? status.netin : 0,
    netout: status.running ? status.netout : 0,
    diskread: status.running ? status.diskread : 0,
    diskwrite: status.running ? status.diskwrite : 0,
    ...(status.pid !== undefined && { pid: status.pid }),
    ...(config.serial0 !== undefined && { serial: 1 }),
    ...(config.tags !== undefined && { tags: config.tags }),
    ...(config.template === 1 && { template: 1 }),
    ...(config.lock !== undefined && { lock: config.lock }),
  }
}

/** GET …/status/current */
export async function current(call: Call): Promise<unknown> {
  const { lab, vmid } = call
  const guest = lab.guests.need(vmid)
  const status = await lab.machines.status(vmid)
  const { agent } = guest.config
  const enabled = agent !== undefined && parseProperties(String(agent), AGENT_FORMAT).enabled === '1'
  return {
    ...summary(guest, status),
    qmpstatus: status.running ? status.qmpstatus : 'stopped',
    ha: { managed: 0 },
    clipboard: null,
    ...(enabled && agentEnabled(guest.config) && { agent: 1 }),
    ...(status.running && {
      nics: Object.fromEntries(
        Object.keys(guest.config)
          .filter((name) => /^net\d+$/.test(name))
          .map((name) => [`tap${vmid}i${name.slice(3)}`, { netin: status.netin, netout: status.netout }]),
      ),
    }),
  }
}

/**
 * Proxmox lists guests by their configurations, and reads one after the other.
 * @throws ApiError 500 now and then, where one of them comes or goes just then
 */
export function checkUnchanging(lab: Lab, type: GuestType): void {
  const [changing] = lab.guests.changing(type)
  if (changing !== undefined && lab.faults.hits('lists')) throw notThere(changing)
}

/** GET /nodes/{node}/qemu */
export async function listGuests(call: Call): Promise<unknown[]> {
  checkUnchanging(call.lab, 'qemu')
  const visible = call.lab.guests.all('qemu').filter(({ vmid }) => call.allowed(`/vms/${vmid}`, ['VM.Audit']))
  return Promise.all(visible.map(async (guest) => summary(guest, await call.lab.machines.status(guest.vmid))))
}
