import { randomUUID } from 'node:crypto'
import { copyMessageOf, failure, parameterError } from '../errors.ts'
import type { Properties } from '../property-string.ts'
import { type Call, findStorage, type Lab } from '../router.ts'
import type { TaskContext } from '../tasks.ts'
import { checkedFormat, copyFormat, createCloudInitDisk } from './allocate.ts'
import { cloneTarget } from './clone-target.ts'
import {
  drivesOf,
  formatSize,
  isCloudInit,
  ownsVolume,
  parseNet,
  printDrive,
  printNet,
  randomMac,
  storageOf,
} from './drives.ts'
import { isRunning, waiting } from './lifecycle.ts'
import { abandonGuest, beginGuest, type Reserved } from './new-guest.ts'
import { checkBridge } from './permissions.ts'
import { snapshotConfig } from './snapshots.ts'
import { checkLock, type GuestConfig } from './store.ts'

/** Copies of guests: linked to a template's base volumes, or full. */

/** `local:110/base-110-disk-0.qcow2`: what a linked clone can stand on */
const BASE_VOLUME = /(^|[:/])base-\d+-[^/]*$/

/** options that are the source's own affair */
const NOT_CLONED = /^(template|lock|parent|snaptime|unused\d+|digest)$/

/** seconds that a clone's task waits for the locks of its source and of its target */
const CLONE_LOCK_SECONDS = 1

/** All is checked in the call, and again in its task: only that holds the locks. */
export async function clone(call: Call): Promise<string> {
  const { lab, vmid } = call
  await checkedPlan(call)
  return call.task('qmclone', vmid, async (task) => {
    await lab.faults.pause(lab.faults.settings.cloneStartSeconds, task.signal)
    task.signal.throwIfAborted()
    // Others may clone it at the same time.
    const options = { shared: true, ...waiting(task.log) }
    await lab.guests.locked(vmid, CLONE_LOCK_SECONDS, () => cloneLocked(call, task), options)
  })
}

async function cloneLocked(call: Call, task: TaskContext): Promise<void> {
  const { lab } = call
  const newid = call.number('newid') as number
  const unlock = await lab.guests.acquire(newid, CLONE_LOCK_SECONDS, waiting(task.log))
  let reserved: Reserved
  let plan: ClonePlan
  try {
    plan = await checkedPlan(call)
    if (lab.pve.clonesAreNamed) task.log(`creating a clone of VM ${call.vmid} with ID ${newid}`)
    // A guest elsewhere, or of the other kind, is noticed when Proxmox writes the file.
    if (lab.guests.find(newid)) {
      const file = `/etc/pve/nodes/${lab.node}/qemu-server/${newid}.conf`
      throw failure(`close (rename) atomic file '${file}' failed: File exists`)
    }
    const config = { lock: 'clone', description: ' qmclone temporary file' }
    reserved = await beginGuest(plan.there, { vmid: newid, type: 'qemu', config, pool: plan.pool }, unlock)
  } catch (error) {
    unlock()
    throw error
  }
  const { guest } = reserved
  const created: string[] = []
  try {
    const drives = await copyDrives(lab, plan, created, task)
    guest.config = { ...clonedSettings(call, plan.config), ...drives }
    await lab.guests.save(guest)
    await reserved.finish(task)
  } catch (error) {
    await abandonGuest(lab, newid, created, task.log)
    throw failure(`clone failed: ${copyMessageOf(error)}`)
  } finally {
    reserved.release()
  }
}

interface ClonePlan {
  /** the source's, or that of its snapshot */
  config: GuestConfig
  newid: number
  full: boolean
  storage: string | undefined
  format: string | undefined
  snapname: string | undefined
  pool: string | undefined
  /** the node that the clone will live on */
  there: Lab
}

/** @throws ApiError where the source, the target or the caller's privileges do not allow it, as they are now */
async function checkedPlan(call: Call): Promise<ClonePlan> {
  const { lab, vmid } = call
  const newid = call.number('newid') as number
  const source = lab.guests.need(vmid)
  const pool = call.text('pool')
  if (pool !== undefined && !lab.access.state.pools[pool]) throw failure(`pool '${pool}' does not exist`)
  checkLock(source)
  const snapname = call.text('snapname')
  const config = snapname === undefined ? { ...source.config } : snapshotConfig(source, snapname)
  const owned = drivesOf(config).filter(([, drive]) => ownsVolume(drive))
  const volids = owned.map(([, drive]) => drive.file)
  const there = cloneTarget(call, volids, 'VM')
  const full = call.flag('full', source.config.template !== 1)
  if (!full) checkLinked(call, config, snapname)
  checkTargets(call, config, full)
  if (full && snapname === undefined && (await isRunning(lab, vmid))) {
    throw failure(
      `the lab copies the disks of stopped guests only: stop VM ${vmid}, or clone from a snapshot`,
    )
  }
  if (lab.guests.find(newid)?.type === 'qemu' && lab.guests.isHere(newid)) {
    throw failure(`unable to create VM ${newid}: config file already exists`)
  }
  return {
    ...{ config, newid, full, snapname, pool, there },
    storage: call.text('storage'),
    format: call.text('format'),
  }
}

function checkLinked(call: Call, config: GuestConfig, snapname: string | undefined): void {
  for (const name of ['storage', 'format']) {
    if (call.has(name)) throw failure(`parameter '${name}' not allowed for linked clones`)
  }
  for (const [slot, drive] of drivesOf(config)) {
    if (!ownsVolume(drive) || isCloudInit(drive)) continue
    const text = snapname === undefined ? `'${drive.file}'` : `a snapshot of '${drive.file}'`
    if (snapname !== undefined || !BASE_VOLUME.test(drive.file)) {
      throw failure(`Linked clone feature is not supported for ${text} (${slot})`)
    }
  }
}

/** The caller may use the storages and bridges that the clone will be on. */
function checkTargets(call: Call, config: GuestConfig, full: boolean): void {
  const wanted = call.text('storage')
  for (const [, drive] of drivesOf(config)) {
    if (!ownsVolume(drive)) {
      const iso = drive.file.includes(':') ? storageOf(drive.file) : undefined
      if (iso !== undefined)
        call.require(`/storage/${iso}`, ['Datastore.AllocateSpace', 'Datastore.Audit'], true)
      continue
    }
    const id = full && wanted !== undefined ? wanted : storageOf(drive.file)
    const storage = findStorage(call.lab, id)
    call.require(`/storage/${id}`, ['Datastore.AllocateSpace'])
    if (!storage.content.includes('images')) {
      throw parameterError({ storage: `storage '${id}' does not support vm images` })
    }
    checkedFormat(storage, full ? call.text('format') : undefined)
  }
  for (const [name, value] of Object.entries(config)) {
    if (/^net\d+$/.test(name)) checkBridge(call, parseNet(value))
  }
}

/** Tags, description and protection come along; MACs, UUIDs and the name do not. */
function clonedSettings(call: Call, config: GuestConfig): GuestConfig {
  const settings: GuestConfig = {}
  for (const [name, value] of Object.entries(config)) {
    if (NOT_CLONED.test(name)) continue
    settings[name] = /^net\d+$/.test(name) ? printNet({ ...parseNet(value), macaddr: randomMac() }) : value
  }
  settings.smbios1 = String(settings.smbios1 ?? '').replace(/^(?=$)|uuid=[^,]*/, `uuid=${randomUUID()}`)
  settings.vmgenid = randomUUID()
  settings.name = call.text('name') ?? `Copy-of-VM-${config.name ?? call.vmid}`
  const description = call.text('description')
  if (description !== undefined) settings.description = description
  return settings
}

async function copyDrives(
  lab: Lab,
  plan: ClonePlan,
  created: string[],
  task: TaskContext,
): Promise<GuestConfig> {
  const result: GuestConfig = {}
  const { newid, snapname } = plan
  for (const [slot, drive] of drivesOf(plan.config)) {
    task.signal.throwIfAborted()
    if (!ownsVolume(drive)) {
      result[slot] = printDrive(slot, drive)
      continue
    }
    const from = findStorage(lab, storageOf(drive.file))
    const linked = !plan.full && !isCloudInit(drive)
    task.log(`create ${linked ? 'linked' : 'full'} clone of drive ${slot} (${drive.file})`)
    const to = findStorage(lab, plan.full ? (plan.storage ?? from.id) : from.id)
    const volume = isCloudInit(drive)
      ? await createCloudInitDisk(to, newid, task.log)
      : linked
        ? await from.linkedClone(drive.file, newid, task.log)
        : await to.fullClone(
            { storage: from, volid: drive.file, ...(snapname !== undefined && { snapshot: snapname }) },
            newid,
            copyFormat(to, plan.format, (await from.find(drive.file))?.format ?? 'raw'),
            task.log,
            task.signal,
          )
    created.push(volume.volid)
    const value: Properties = { ...drive, file: volume.volid, size: formatSize(volume.size) }
    result[slot] = printDrive(slot, value)
  }
  return result
}
