/** What on a server is the suite's own. All else belongs to others: it is neither changed nor looked at. */
export interface Own {
  /** of its pool, its user and its images; and what the names of its files begin with */
  namespace: string
  /** where nobody else has guests */
  vmids: { first: number; last: number }
  /** which tags users may set is its to change, for the time of a test */
  tagRules?: boolean
}

/** A role that a test tries to make. */
export const ownRole = (own: Own): string => `${own.namespace}-role`

export const ownPool = (own: Own): string => own.namespace
export const ownUser = (own: Own): string => `${own.namespace}@pve`
/** A file's name on a storage. */
export const ownFile = (own: Own, name: string): string => `${own.namespace}-${name}`

export function isOwnVmid({ vmids }: Own, vmid: number): boolean {
  return vmid >= vmids.first && vmid <= vmids.last
}

/** The suite's pool, and those that a test makes beside it. */
export function isOwnPool({ namespace }: Own, poolid: string): boolean {
  return poolid === namespace || poolid.startsWith(`${namespace}-`)
}

/** The guest that a volume belongs to; of a linked one Proxmox names the base first. */
function guestOf(volid: string): number {
  const backup = /:backup\/vzdump-\w+-(\d+)-/.exec(volid)
  const disks = [...volid.matchAll(/\b(?:vm|base|subvol)-(\d+)-/g)]
  return Number(backup?.[1] ?? disks.at(-1)?.[1])
}

/** Whether a volume belongs to a guest of the suite, or is a file that it has uploaded. */
export function isOwnVolume(own: Own, volid: string): boolean {
  const file = /^[^:]+:(?:iso|vztmpl|import)\/([^/]+)$/.exec(volid)?.[1]
  return file === undefined ? isOwnVmid(own, guestOf(volid)) : file.startsWith(`${own.namespace}-`)
}

/** The VMID or other name that a task works on. */
export const taskId = (upid: string): string => upid.split(':')[6] ?? ''
