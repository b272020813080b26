import type { MachineStatus } from '../../world.ts'
import { parseProperties } from '../property-string.ts'
import type { Call, Lab } from '../router.ts'
import { bootOrder, drivesOf, isCdrom, parseSize } from './drives.ts'
import { agentEnabled, cpusOf, memoryOf } from './machine-spec.ts'
import { AGENT_FORMAT } from './options.ts'
import type { Guest, GuestConfig } from './store.ts'

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

function common(guest: Guest, status: MachineStatus): Record<string, unknown> {
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
    ...common(guest, status),
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

/** GET /nodes/{node}/qemu */
export async function listGuests(call: Call): Promise<unknown[]> {
  const visible = call.lab.guests.all().filter(({ vmid }) => call.allowed(`/vms/${vmid}`, ['VM.Audit']))
  return Promise.all(visible.map(async (guest) => common(guest, await call.lab.machines.status(guest.vmid))))
}

/**
 * Rows of `cluster/resources`. Proxmox collects them every 10 s or so: what changed since shows with its state of
 * before, and what is new with default values, only tags and lock are read at once.
 */
export class GuestRows {
  readonly #rows = new Map<number, Record<string, unknown>>()

  async row(lab: Lab, guest: Guest): Promise<Record<string, unknown>> {
    const { vmid, config } = guest
    const old = this.#rows.get(vmid)
    if (Date.now() - guest.changed >= lab.resourceLag * 1000) {
      this.#rows.set(vmid, await this.#sample(lab, guest))
    } else if (!old) this.#rows.set(vmid, this.#defaults(lab, vmid))
    const { tags: _tags, lock: _lock, ...row } = this.#rows.get(vmid) as Record<string, unknown>
    return {
      ...row,
      ...(config.tags !== undefined && { tags: config.tags }),
      ...(config.lock !== undefined && { lock: config.lock }),
    }
  }

  /** A deleted guest must not lend its row to the next one with its VMID. */
  forget(present: ReadonlySet<number>): void {
    for (const vmid of this.#rows.keys()) if (!present.has(vmid)) this.#rows.delete(vmid)
  }

  async #sample(lab: Lab, guest: Guest): Promise<Record<string, unknown>> {
    const { cpus, pid: _pid, serial: _serial, ...row } = common(guest, await lab.machines.status(guest.vmid))
    return {
      ...row,
      id: `qemu/${guest.vmid}`,
      type: 'qemu',
      node: lab.node,
      maxcpu: cpus,
      template: guest.config.template === 1 ? 1 : 0,
    }
  }

  #defaults(lab: Lab, vmid: number): Record<string, unknown> {
    return {
      ...{ id: `qemu/${vmid}`, type: 'qemu', node: lab.node, vmid, name: `VM ${vmid}`, status: 'stopped' },
      ...{ maxcpu: 1, cpu: 0, mem: 0, maxmem: 512 * MIB, disk: 0, maxdisk: 0, uptime: 0, template: 0 },
      ...{ netin: 0, netout: 0, diskread: 0, diskwrite: 0 },
    }
  }
}
