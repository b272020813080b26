import { createHash } from 'node:crypto'
import { resolve } from 'node:path'

/**
 * What a lab's things in the system are called. All names follow from the lab's folder, so that whoever comes
 * after a killed daemon finds what it has left.
 */
export interface LabNames {
  /** the Linux bridge; at most 15 characters, as all interface names */
  bridge: string
  /** the nft table */
  table: string
  /** sockets and pid files: their paths must be short (108 bytes), a lab's folder need not be */
  runtime: string
  /** LXC's folder: everybody may pass through it, which LXC demands of unprivileged containers */
  lxcPath: string
  /** what LXC calls a container: its control groups and sockets are the whole machine's */
  container(vmid: number): string
  /** tap device of the NIC in slot net<n>, or a container's NIC's end outside */
  tap(vmid: number, slot: string): string
}

export function labNames(dir: string): LabNames {
  const id = createHash('sha256').update(resolve(dir)).digest('hex').slice(0, 6)
  return {
    bridge: `iblab-${id}`,
    table: `iblab_${id}`,
    runtime: `/run/iblab-${id}`,
    lxcPath: `/run/iblab-${id}-lxc`,
    container: (vmid) => `iblab-${id}-${vmid}`,
    // VMIDs have up to nine digits and slots go up to net31: in base 36 it is 14 characters at most.
    tap: (vmid, slot) => `ibt${id.slice(0, 4)}${vmid.toString(36)}${Number(slot.slice(3)).toString(36)}`,
  }
}
