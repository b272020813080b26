import { copyMessageOf, failure } from '../errors.ts'
import { type Call, findStorage } from '../router.ts'
import { copyFormat } from './allocate.ts'
import {
  drivesOf,
  formatSize,
  freeUnused,
  isCdrom,
  ownsVolume,
  parseDrive,
  parseSize,
  printDrive,
  storageOf,
} from './drives.ts'
import { isRunning } from './lifecycle.ts'
import { canSnapshot } from './snapshots.ts'
import { checkDigest, checkLock, TASK_LOCK_SECONDS } from './store.ts'

/** Growing and moving a guest's disks. */

/** PUT …/resize */
export function resize(call: Call): string {
  const { lab, vmid } = call
  const skip = call.onlyRoot('skiplock')
  const slot = call.need('disk')
  const size = call.need('size')
  lab.guests.need(vmid)
  return call.task('resize', vmid, ({ log }) =>
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const guest = lab.guests.need(vmid)
      checkDigest(lab.guests, guest, call.text('digest'))
      checkLock(guest, skip)
      const value = guest.config[slot]
      if (value === undefined) throw failure(`disk '${slot}' does not exist`)
      const drive = parseDrive(slot, value)
      if (isCdrom(drive) || !drive.file.includes(':')) throw failure(`you can't resize a cdrom`)
      const storage = findStorage(lab, storageOf(drive.file))
      const volume = await storage.find(drive.file)
      if (!volume) throw failure(`volume '${drive.file}' does not exist`)
      const given = parseSize(size.replace(/^\+/, ''))
      const wanted = size.startsWith('+') ? volume.size + given : given
      // Whole KiB, as Proxmox rounds up.
      const bytes = Math.ceil(wanted / 1024) * 1024
      if (bytes < volume.size) throw failure('shrinking disks is not supported')
      if (bytes > volume.size) {
        if (await isRunning(lab, vmid)) await lab.machines.resizeDrive(vmid, slot, bytes)
        else await storage.resize(drive.file, bytes, log)
      }
      guest.config[slot] = printDrive(slot, { ...drive, size: formatSize(bytes) })
      await lab.guests.save(guest)
    }),
  )
}

/** POST …/move_disk: to another storage, or another format. */
export async function moveDisk(call: Call): Promise<string> {
  const { lab, vmid } = call
  if (call.has('target-vmid') || call.has('target-disk'))
    throw failure('the lab moves disks between storages only')
  const slot = call.need('disk')
  const guest = lab.guests.need(vmid)
  checkDigest(lab.guests, guest, call.text('digest'))
  checkLock(guest)
  const value = guest.config[slot]
  if (value === undefined) throw failure(`disk '${slot}' does not exist`)
  const drive = parseDrive(slot, value)
  if (!ownsVolume(drive)) throw failure(`you can't move a cdrom`)
  const from = findStorage(lab, storageOf(drive.file))
  const to = findStorage(lab, call.text('storage') ?? from.id)
  call.require(`/storage/${to.id}`, ['Datastore.AllocateSpace'])
  const volume = await from.find(drive.file)
  if (!volume) throw failure(`volume '${drive.file}' does not exist`)
  const format = copyFormat(to, call.text('format'), volume.format)
  if (from.id === to.id && format === volume.format) {
    throw failure("you can't move to the same storage with same format")
  }
  if (Object.keys(guest.snapshots).length > 0 && call.flag('delete')) {
    throw failure("you can't move a disk with snapshots and delete the source")
  }
  if (await isRunning(lab, vmid)) throw failure('the lab moves the disks of stopped guests only')
  return call.task('qmmove', vmid, ({ log, signal }) =>
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      log(`create full clone of drive ${slot} (${drive.file})`)
      const copy = await to
        .fullClone({ storage: from, volid: drive.file }, vmid, format, log, signal)
        .catch((error) => {
          throw failure(`storage migration failed: ${copyMessageOf(signal.aborted ? signal.reason : error)}`)
        })
      guest.config[slot] = printDrive(slot, { ...drive, file: copy.volid, size: formatSize(copy.size) })
      if (!call.flag('delete')) guest.config[freeUnused(guest.config)] = drive.file
      await lab.guests.save(guest)
      if (call.flag('delete')) await from.remove(drive.file)
    }),
  )
}

/** GET …/feature */
export async function feature(call: Call): Promise<unknown> {
  const { lab, vmid } = call
  const guest = lab.guests.need(vmid)
  const wanted = call.need('feature')
  const disks = drivesOf(guest.config).filter(([, drive]) => !isCdrom(drive))
  const has =
    wanted === 'snapshot'
      ? await canSnapshot(lab, guest)
      : wanted === 'clone'
        ? !call.has('snapname') && disks.every(([, drive]) => /base-\d+-[^/]*$/.test(drive.file))
        : true
  const everywhere = disks.every(([, { file }]) => lab.storages.get(storageOf(file))?.shared)
  const nodes = everywhere ? [...lab.nodes.keys()] : [lab.node]
  return { hasFeature: has ? 1 : 0, nodes: has ? nodes : [] }
}
