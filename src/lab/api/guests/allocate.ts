import { stat } from 'node:fs/promises'
import { firmware } from '../../firmware.ts'
import type { Log, Storage, Volume } from '../../world.ts'
import { failure, messageOf } from '../errors.ts'
import type { Properties } from '../property-string.ts'
import { findStorage, type Lab } from '../router.ts'
import { formatSize, isDriveSlot, parseDrive, printDrive, storageOf } from './drives.ts'
import type { GuestConfig } from './store.ts'

/** Making the disks that `storage:size`, `storage:cloudinit` and `import-from` ask for. */

const GIB = 1024 ** 3
/** bytes of a cloud-init drive, as Proxmox makes it */
const CLOUDINIT_SIZE = 4 * 1024 ** 2
const TPM_SIZE = 4 * 1024 ** 2

/** Proxmox's default: raw in a directory unless asked for something else, raw on block storage in any case. */
export function checkedFormat(storage: Storage, format: string | undefined): string {
  if (storage.type !== 'dir' && format !== undefined && format !== 'raw') {
    throw failure(`unsupported format '${format}'`)
  }
  return format ?? 'raw'
}

/** The format that a copy of a volume gets on `storage`. */
export function copyFormat(storage: Storage, wanted: string | undefined, source: string): string {
  if (wanted !== undefined) return checkedFormat(storage, wanted)
  return storage.type === 'dir' && ['qcow2', 'raw', 'vmdk'].includes(source) ? source : 'raw'
}

export async function createCloudInitDisk(storage: Storage, vmid: number, log: Log): Promise<Volume> {
  const format = storage.type === 'dir' ? 'qcow2' : 'raw'
  return storage.createDisk(vmid, CLOUDINIT_SIZE, format, log, `vm-${vmid}-cloudinit`)
}

/**
 * Makes or checks the volumes of all drives among `settings`, and gives the drives' final values. What was made is
 * noted in `created`, so that a failure can take it back.
 */
export async function allocateDrives(
  lab: Lab,
  vmid: number,
  settings: GuestConfig,
  created: string[],
  log: Log,
  signal: AbortSignal,
): Promise<GuestConfig> {
  const result: GuestConfig = {}
  for (const slot of Object.keys(settings).filter(isDriveSlot).sort()) {
    signal.throwIfAborted()
    const drive = parseDrive(slot, settings[slot] as string)
    const { file } = drive
    if (file === 'none' || file === 'cdrom' || file.startsWith('/')) {
      result[slot] = printDrive(slot, drive)
      continue
    }
    const [, storageId = '', rest = ''] = /^([^:]+):(.*)$/.exec(file) ?? []
    const storage = findStorage(lab, storageId)
    const isNew = rest === 'cloudinit' || /^\d+(\.\d+)?$/.test(rest)
    if (!isNew) {
      const volume = await storage.find(file)
      if (!volume) throw failure(`volume '${file}' does not exist`)
      // A freshly read-in cloud-init drive keeps its size out of the value; Proxmox prints it for all others.
      result[slot] = printDrive(slot, { ...drive, size: formatSize(volume.size) })
      continue
    }
    const volume = await make(lab, vmid, slot, drive, storage, rest, log, signal)
    created.push(volume.volid)
    const { 'import-from': source, format: _format, ...kept } = drive
    const cloudInit = rest === 'cloudinit'
    const value = printDrive(slot, {
      ...kept,
      file: volume.volid,
      ...(cloudInit ? { media: 'cdrom' } : { size: formatSize(volume.size) }),
    })
    if (source === undefined) log(`${slot}: successfully created disk '${value}'`)
    result[slot] = value
  }
  return result
}

async function make(
  lab: Lab,
  vmid: number,
  slot: string,
  drive: Properties,
  storage: Storage,
  size: string,
  log: Log,
  signal: AbortSignal,
): Promise<Volume> {
  if (size === 'cloudinit') return createCloudInitDisk(storage, vmid, log)
  const source = drive['import-from']
  if (source !== undefined) return importFrom(lab, vmid, source, drive.format, storage, log, signal)
  const format = checkedFormat(storage, drive.format)
  if (slot === 'efidisk0') {
    return storage.importDisk(vmid, firmware(drive).vars, format, log, signal)
  }
  const bytes = slot === 'tpmstate0' ? TPM_SIZE : Math.round(Number(size) * GIB)
  return storage.createDisk(vmid, bytes, format, log)
}

async function importFrom(
  lab: Lab,
  vmid: number,
  source: string,
  wanted: string | undefined,
  storage: Storage,
  log: Log,
  signal: AbortSignal,
): Promise<Volume> {
  const isPath = source.startsWith('/')
  const from = isPath ? undefined : findStorage(lab, storageOf(source))
  const path = from ? from.path(source) : source
  const found = from ? await from.find(source) : await stat(path).catch(() => undefined)
  if (!found) throw failure(`failed to stat '${path}'`)
  const sourceFormat = 'format' in found ? found.format : /\.(qcow2|vmdk)$/.exec(path)?.[1]
  const format = copyFormat(storage, wanted, sourceFormat ?? 'raw')
  log(`create full clone of drive (${source})`)
  try {
    return await storage.importDisk(vmid, path, format, log, signal)
  } catch (error) {
    const why = messageOf(signal.aborted ? signal.reason : error).replace(/^copy failed: /, '')
    throw failure(`cannot import from '${source}' - copy failed: ${why}`)
  }
}

/** Takes back what a failed task had made; what cannot be removed is said in its log. */
export async function removeVolumes(lab: Lab, volids: readonly string[], log: Log): Promise<void> {
  for (const volid of volids) {
    try {
      await findStorage(lab, storageOf(volid)).remove(volid)
    } catch (error) {
      log(`unable to remove volume '${volid}' - ${messageOf(error)}`)
    }
  }
}
