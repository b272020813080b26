import { isRootTicket } from '../access.ts'
import { failure, parameterError } from '../errors.ts'
import type { Properties } from '../property-string.ts'
import { type Call, type Check, findStorage, on } from '../router.ts'
import { isCdrom, isDriveSlot, parseDrive, parseNet, storageOf } from './drives.ts'

/** Which privilege each option of a guest needs. */

const NEEDS: readonly (readonly [RegExp, readonly string[]])[] = [
  [/^(cores|cpu|cpulimit|cpuunits|numa\d*|smp|sockets|vcpus|affinity)$/, ['VM.Config.CPU']],
  [/^(memory|balloon|shares|hugepages|keephugepages|allow-ksm)$/, ['VM.Config.Memory']],
  [
    /^(acpi|hotplug|kvm|machine|scsihw|smbios1|tablet|vga|watchdog|audio0|vmgenid|ivshmem|rng0|serial\d+|usb\d+)$/,
    ['VM.Config.HWType'],
  ],
  [
    /^(agent|autostart|bios|description|keyboard|localtime|migrate_downtime|migrate_speed|name|onboot|ostype|protection|reboot|startdate|startup|tdf|template)$/,
    ['VM.Config.Options'],
  ],
  [/^freeze$/, ['VM.PowerMgmt']],
  [/^(boot|bootdisk|vmstatestorage)$/, ['VM.Config.Disk']],
  [
    /^(cicustom|cipassword|citype|ciuser|ciupgrade|nameserver|searchdomain|sshkeys|ipconfig\d+)$/,
    ['VM.Config.Cloudinit', 'VM.Config.Network'],
  ],
  [/^net\d+$/, ['VM.Config.Network']],
]

export const MAY_CLONE: Check = {
  and: [
    on('/vms/{vmid}', 'VM.Clone'),
    { or: [on('/vms/{newid}', 'VM.Allocate'), on('/pool/{pool}', 'VM.Allocate')] },
  ],
}

/**
 * Options that are not about a drive.
 * @param pool that a new guest joins
 * @throws ApiError 403, or 500 for what only root may
 */
export function checkOptions(call: Call, names: readonly string[], pool?: string): void {
  if (isRootTicket(call.caller)) return
  for (const name of names) {
    // Tags are judged when the guest is written: see tags.ts.
    if (isDriveSlot(name) || /^(?:cdrom|tags|unused\d+)$/.test(name)) continue
    const value = call.text(name)
    if (/^serial\d+$/.test(name) && value !== undefined && value !== 'socket') {
      throw failure(`only root can modify '${name}' config for real devices`)
    }
    if (/^usb\d+$/.test(name) && value !== undefined && !/spice|mapping=/i.test(value)) {
      throw failure(`only root can set '${name}' config for real devices`)
    }
    if (/^hostpci\d+$/.test(name)) throw failure(`only root can set '${name}' config for non-mapped devices`)
    const needs = NEEDS.find(([pattern]) => pattern.test(name))
    if (!needs) throw failure(`only root can set '${name}' config`)
    requireOnGuest(call, needs[1], pool)
    if (/^net\d+$/.test(name) && value !== undefined) checkBridge(call, parseNet(value))
  }
}

/** One of these; for a new guest, on the pool that it joins will do. @throws ApiError 403 */
export function requireOnGuest(call: Call, privileges: readonly string[], pool: string | undefined): void {
  if (pool !== undefined && call.allowed(`/pool/${pool}`, privileges, true)) return
  call.require(`/vms/${call.vmid}`, privileges, true)
}

/** @throws ApiError 403 without SDN.Use on the bridge */
export function checkBridge(call: Call, { bridge, tag }: Properties): void {
  if (bridge === undefined) return
  const path = `/sdn/zones/localnetwork/${bridge}`
  call.require(tag === undefined ? path : `${path}/${tag}`, ['SDN.Use'])
}

/** Drives that are to be made or attached: their storages exist, hold images, and the caller may use them. */
export function checkDrives(call: Call, vmid: number, names: readonly string[]): void {
  for (const slot of names.filter(isDriveSlot)) {
    const drive = parseDrive(slot, call.need(slot))
    const { file } = drive
    if (file === 'none' || file === 'cdrom') continue
    const source = drive['import-from']
    if (file.startsWith('/')) {
      checkPath(call)
      continue
    }
    const [, storageId = '', rest = ''] = /^([^:]+):(.*)$/.exec(file) ?? []
    const storage = findStorage(call.lab, storageId)
    const isNew = rest === 'cloudinit' || /^\d+(\.\d+)?$/.test(rest)
    if (source !== undefined && !isNew) {
      throw parameterError({
        [slot]: `'import-from' requires special syntax - use <storage ID>:0,import-from=<source>`,
      })
    }
    if (isNew) {
      call.require(`/storage/${storageId}`, ['Datastore.AllocateSpace'])
      if (!storage.content.includes('images')) {
        throw parameterError({ storage: `storage '${storageId}' does not support vm images` })
      }
      if (source !== undefined) checkVolume(call, vmid, source)
    } else checkVolume(call, vmid, file)
  }
}

/** Attaching or detaching needs the privilege for disks or for CD-ROMs. */
export function checkDriveChange(call: Call, vmid: number, slot: string, value: string | number): void {
  const cdrom = isCdrom(parseDrive(slot, value))
  call.require(`/vms/${vmid}`, [cdrom ? 'VM.Config.CDROM' : 'VM.Config.Disk'])
}

function checkPath(call: Call): void {
  if (!isRootTicket(call.caller)) throw failure('Only root can pass arbitrary filesystem paths.')
}

/** @throws ApiError when the caller may not read this volume */
export function checkVolume(call: Call, vmid: number | undefined, volid: string): void {
  if (volid.startsWith('/')) {
    checkPath(call)
    return
  }
  const storageId = storageOf(volid)
  findStorage(call.lab, storageId)
  const owner = /(?:vm|base)-(\d+)-/.exec(volid.split('/').at(-1) ?? '')?.[1]
  const isFile = /^[^:]+:(iso|vztmpl|import|snippets)\//.test(volid)
  if (isFile || (owner !== undefined && Number(owner) === vmid)) {
    call.require(`/storage/${storageId}`, ['Datastore.AllocateSpace', 'Datastore.Audit'], true)
  } else call.require(`/storage/${storageId}`, ['Datastore.Allocate'])
}
