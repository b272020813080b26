import type { GuestConfig } from './answers.ts'
import type { Pve } from './client.ts'
import { PveError } from './errors.ts'
import { type GuestRef, guestApi } from './guest-ref.ts'
import type { Place } from './place.ts'

/** Copies of templates. */
export interface CloneOf {
  node: string
  vmid: number
  /** share the template's disks where the storage can do that; else, and when missing, a full copy */
  linked?: boolean
  /** all that a consumer's clone has stays, its cloud-init drive too; when missing, a seed of ours takes its place */
  asConsumer?: boolean
}

/**
 * Orders the copy. Its note comes with the order: a clone bears its template's tags and note until it is configured,
 * and would be nobody's where we are killed in between.
 * @param guest whom the copy will be
 * @returns the UPID
 */
export async function orderClone(
  pve: Pve,
  guest: GuestRef,
  { node, vmid }: CloneOf,
  how: { full: boolean; name: unknown; description: unknown; place: Place },
): Promise<string> {
  const { full, name, description, place } = how
  const parameters = {
    newid: guest.vmid,
    full,
    ...(name !== undefined && { [guest.kind === 'vm' ? 'name' : 'hostname']: String(name) }),
    ...(description !== undefined && { description: String(description) }),
    ...(full && { storage: place.storages.disks }),
    ...(place.pool !== undefined && { pool: place.pool }),
  }
  return await guestApi(pve, { kind: guest.kind, node, vmid }).clone.$post(parameters)
}

/** Proxmox cannot link to a volume of this storage: of containers on a directory, say. */
export function cannotLink(error: unknown): boolean {
  return (
    error instanceof PveError && /linked clone feature .*(not supported|not available)/i.test(error.message)
  )
}

/** The cloud-init drives that came along. */
export function inheritedDrives(config: GuestConfig): string[] {
  return Object.keys(config).filter((key) => /cloudinit.*media=cdrom/.test(String(config[key])))
}
