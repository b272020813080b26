import type { Lab } from '../router.ts'
import { KINDS } from './kinds.ts'
import { type Guest, wordFor } from './store.ts'

const MIB = 1024 ** 2

/**
 * Rows of `cluster/resources`. Proxmox collects them every 10 s or so: what changed since shows with its state of
 * before, and what is new with default values, only tags and lock are read at once.
 */
export class GuestRows {
  readonly #rows = new Map<number, Record<string, unknown>>()

  async row(lab: Lab, guest: Guest): Promise<Record<string, unknown>> {
    const { vmid, type, node, config } = guest
    // A VMID may have changed hands since.
    const known = this.#rows.get(vmid)
    if (known?.type !== type || known.node !== node) this.#rows.delete(vmid)
    const old = this.#rows.get(vmid)
    if (Date.now() - guest.changed >= lab.resourceLag * 1000) {
      this.#rows.set(vmid, await this.#sample(lab, guest))
    } else if (!old) this.#rows.set(vmid, this.#defaults(guest))
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
    const { vmid, type } = guest
    const {
      cpus,
      pid: _pid,
      serial: _serial,
      swap: _swap,
      maxswap: _most,
      ...row
    } = await KINDS[type].summary(lab, guest)
    return {
      ...row,
      id: `${type}/${vmid}`,
      type,
      node: guest.node,
      maxcpu: cpus,
      template: guest.config.template === 1 ? 1 : 0,
    }
  }

  #defaults({ vmid, type, node }: Guest): Record<string, unknown> {
    const name = `${wordFor(type)} ${vmid}`
    return {
      ...{ id: `${type}/${vmid}`, type, node, vmid, name, status: 'stopped' },
      ...{ maxcpu: 1, cpu: 0, mem: 0, maxmem: 512 * MIB, disk: 0, maxdisk: 0, uptime: 0, template: 0 },
      ...{ netin: 0, netout: 0, diskread: 0, diskwrite: 0 },
    }
  }
}
