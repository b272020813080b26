import { ImagebuildError } from '../core/errors.ts'
import type { GuestConfig } from './answers.ts'
import type { Pve } from './client.ts'
import { type GuestRef, guestLabel, readConfig } from './guest-ref.ts'
import { isWritten, writeConfig } from './lost-answer.ts'
import { listDisks } from './volumes.ts'

/**
 * What Proxmox says of a template must be what was written. Real Proxmox overwrites a container's configuration with an old copy
 * after a stop (see `stopGuest`); what else may do so is not known, and a template without its marks, or with a root volume that
 * there is not, would be found out by its users.
 */

/** Keys of disks that hold the system: a container's, a virtual machine's. */
const ROOT = { lxc: 'rootfs', vm: 'scsi0' } as const

export interface Written {
  tags: string
  description: string
}

/**
 * Reads a template back after its conversion, and repairs what is not as it was written.
 * @throws ImagebuildError `build_failed` where it cannot be repaired
 */
export async function confirmTemplate(pve: Pve, guest: GuestRef, written: Written): Promise<void> {
  const first = await differences(pve, guest, written)
  if (Object.keys(first).length === 0) return
  await writeConfig(pve, guest, first).catch((cause) => {
    throw notAsWritten(guest, Object.keys(first).join(', '), cause)
  })
  const left = await differences(pve, guest, written)
  if (Object.keys(left).length > 0) throw notAsWritten(guest, Object.keys(left).join(', '))
}

type Change = Record<string, string | boolean>

/** What must be written to make the configuration what it should be. */
async function differences(pve: Pve, guest: GuestRef, written: Written): Promise<Change> {
  const config = await readConfig(pve, guest)
  const wanted: Change = { template: true, ...written, ...(await rootVolume(pve, guest, config)) }
  return Object.fromEntries(
    Object.entries(wanted).filter(([key, value]) => !isWritten(config, { [key]: value })),
  )
}

/**
 * The root volume where the configuration names one that its storage does not have: the guest's only volume of that
 * storage that the configuration does not name.
 * @throws ImagebuildError `build_failed` where there is no such volume, or more than one
 */
async function rootVolume(pve: Pve, guest: GuestRef, config: GuestConfig): Promise<Change> {
  const key = ROOT[guest.kind]
  const value = String(config[key] ?? '')
  const [volid = '', ...options] = value.split(',')
  const storage = volid.slice(0, Math.max(0, volid.indexOf(':')))
  if (storage === '') return {}
  const listed = await listDisks(pve, guest.node, storage, guest.vmid)
  const stored = listed?.filter((volume) => Number(volume.vmid) === guest.vmid) ?? []
  // These credentials may not see volumes there: without Datastore.Allocate, or Datastore.Audit, Proxmox lists none.
  if (stored.length === 0 || stored.some((volume) => volume.volid === volid)) return {}
  const unnamed = stored.filter((volume) => !namesVolume(config, volume.volid))
  const [actual] = unnamed
  if (actual === undefined || unnamed.length > 1) throw notAsWritten(guest, `${key}: ${value}`)
  return { [key]: [actual.volid, ...options].join(',') }
}

function namesVolume(config: GuestConfig, volid: string): boolean {
  return Object.values(config).some((value) => String(value).split(',', 1)[0] === volid)
}

function notAsWritten(guest: GuestRef, what: string, cause?: unknown): ImagebuildError {
  return new ImagebuildError({
    code: 'build_failed',
    what: `Proxmox has not kept what was written to ${guestLabel(guest)} on ${guest.node}: ${what}`,
    why: 'something has written an older copy of its configuration back, and it could not be repaired',
    next: `look at its tasks on ${guest.node}, and run again`,
    cause,
  })
}
