import { PveError, PveTaskError } from './errors.ts'

/** Who has which VMID: what this process keeps to itself, and what Proxmox refuses. */

/**
 * VMIDs that guests of this process are about to get. Proxmox shows a clone only once its task has begun, and accepts two
 * orders for one VMID until then: guests that are created at once must differ before Proxmox is asked.
 */
export class VmidReservations {
  readonly #reserved = new Set<number>()

  /** Undefined where another guest of this process has it. */
  reserve(vmid: number): Disposable | undefined {
    if (this.#reserved.has(vmid)) return undefined
    this.#reserved.add(vmid)
    return { [Symbol.dispose]: () => void this.#reserved.delete(vmid) }
  }
}

/**
 * Proxmox refuses to make a guest because its VMID is taken, or being taken at this moment. Of creates, and of clones where
 * the configuration is there already, the call says so; of clones that begin at the same moment, the task of the slower one.
 * A volume that exists already is none of these: that storage would refuse the next VMID too.
 */
export function isTaken(error: unknown, vmid: number): boolean {
  if (!(error instanceof PveError || error instanceof PveTaskError)) return false
  const text = error instanceof PveError ? error.pveMessage : error.exitstatus
  return REFUSALS.some((refusal) => refusal(vmid).test(text))
}

/** The words of Proxmox VE 8.4 and 9.2; `VM ID` is how a cluster's other node is told. */
const REFUSALS: readonly ((vmid: number) => RegExp)[] = [
  (vmid) => new RegExp(`\\b(VM|CT|VMID|guest) ('?${vmid}'?|ID) already (exists|used)`, 'i'),
  (vmid) => new RegExp(`unable to create (VM|CT) ${vmid}: config file already exists`, 'i'),
  (vmid) =>
    new RegExp(`can't lock file '[^']*\\b(lock|pve-config)-${vmid}\\.(conf|lock)' - got timeout`, 'i'),
  // Another node has made it since: pmxcfs refuses a second configuration of that VMID.
  (vmid) => new RegExp(`/(qemu-server|lxc)/${vmid}\\.conf\\S*'? .*File exists`, 'i'),
]
