import type { GuestConfig, StoredDisk } from './answers.ts'
import type { Pve } from './client.ts'
import { clusterGuests, type GuestRef, guestLabel } from './guest-ref.ts'
import { listDisks } from './volumes.ts'

/** Guests whose disks are layers above a template's. Proxmox removes no template that has any. */
export interface LinkedClone {
  vmid: number
  /** `VM 130 (shop)` */
  label: string
}

/** Keys of a configuration that name a volume. */
const VOLUME_KEY = /^(scsi|virtio|sata|ide|efidisk|tpmstate|rootfs|mp|unused)\d*$/

/**
 * The linked clones of a template that may be seen: Proxmox shows volumes to those who may use them. On storages that
 * forget where a clone came from (LVM-thin) none is found, and none is needed: a clone there lives by itself.
 */
export async function linkedClones(
  pve: Pve,
  template: GuestRef,
  config: GuestConfig,
): Promise<LinkedClone[]> {
  const bases = Object.keys(config)
    .filter((key) => VOLUME_KEY.test(key))
    .map((key) => String(config[key]).split(',', 1)[0] ?? '')
    .filter((volid) => /[:/]base-\d+-/.test(volid))
  const storages = [...new Set(bases.map((volid) => volid.slice(0, volid.indexOf(':'))))]
  const listed = await Promise.all(storages.map((storage) => listDisks(pve, template.node, storage)))
  // Where nothing may be seen, Proxmox's own refusal tells.
  const disks = listed.flatMap((on) => on ?? [])
  const clones = new Set(
    disks.flatMap((disk) =>
      disk.vmid !== undefined && disk.vmid !== template.vmid && bases.some((base) => isAbove(disk, base))
        ? [disk.vmid]
        : [],
    ),
  )
  if (clones.size === 0) return []
  const rows = await clusterGuests(pve)
  return [...clones]
    .sort((a, b) => a - b)
    .map((vmid) => {
      const row = rows.find((one) => one.vmid === vmid)
      const label = guestLabel({ kind: row?.kind ?? template.kind, vmid })
      return { vmid, label: row?.name === undefined ? label : `${label} (${row.name})` }
    })
}

/** Its own id begins with its base's; `parent` is that one's file, relative on a directory, a snapshot on others. */
function isAbove({ volid, parent }: StoredDisk, base: string): boolean {
  if (volid.startsWith(`${base}/`)) return true
  const [name] = base
    .slice(base.indexOf(':') + 1)
    .split('/')
    .slice(-1)
  return volid.slice(0, volid.indexOf(':')) === base.slice(0, base.indexOf(':')) && baseOf(parent) === name
}

function baseOf(parent: string | null | undefined): string | undefined {
  return parent?.split('@', 1)[0]?.split('/').at(-1)
}
