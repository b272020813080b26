import { copyMessageOf, failure } from '../errors.ts'
import { cloneTarget } from '../guests/clone-target.ts'
import { formatSize, storageOf } from '../guests/drives.ts'
import { abandonGuest, CREATE_LOCK_SECONDS, type Reserved, reserveGuest } from '../guests/new-guest.ts'
import { checkBridge } from '../guests/permissions.ts'
import { canSnapshot, snapshotConfig } from '../guests/snapshots.ts'
import { checkLock, type GuestConfig, LOCK_SECONDS } from '../guests/store.ts'
import { type Call, findStorage, type Lab } from '../router.ts'
import type { TaskContext } from '../tasks.ts'
import { isRunning, warnWithoutNesting } from './lifecycle.ts'
import { checkRootStorage } from './permissions.ts'
import { containerSpec } from './spec.ts'
import { isNet, parseNet, parseRoot, printRoot, storedDescription, withNewMac } from './values.ts'

/** Copies of containers: full, or on storages that can, linked to a template's base volume. */

/** options that are the source's own affair */
const NOT_CLONED = /^(template|lock|parent|unused\d+)$/

export async function clone(call: Call): Promise<string> {
  const { lab, vmid } = call
  const pool = call.text('pool')
  if (pool !== undefined && !lab.access.state.pools[pool]) throw failure(`pool '${pool}' does not exist`)
  const unlockSource = await lockSource(lab, vmid)
  try {
    const plan = await checkedPlan(call)
    const wanted = { vmid: plan.newid, type: 'lxc', config: { lock: 'create' }, pool } as const
    const reserved = await reserveGuest(plan.there, wanted, CREATE_LOCK_SECONDS)
    return call.task('vzclone', vmid, (task) => copy(call, plan, reserved, task).finally(unlockSource))
  } catch (error) {
    await unlockSource()
    throw error
  }
}

/**
 * Nobody else may copy the source, or use it, until the function that this gives is called.
 * @throws ApiError 500 when it is locked already
 */
async function lockSource(lab: Lab, vmid: number): Promise<() => Promise<void>> {
  const set = (lock: string | undefined) =>
    lab.guests.locked(vmid, LOCK_SECONDS, async () => {
      const guest = lab.guests.need(vmid, 'lxc')
      if (lock === undefined) delete guest.config.lock
      else {
        checkLock(guest)
        guest.config.lock = lock
      }
      await lab.guests.save(guest)
    })
  await set('disk')
  return () => set(undefined)
}

async function copy(call: Call, plan: ClonePlan, reserved: Reserved, task: TaskContext): Promise<void> {
  const { lab } = call
  const { newid, settings } = plan
  const { guest } = reserved
  if (lab.pve.clonesAreNamed) task.log(`creating a clone of container ${call.vmid} with ID ${newid}`)
  const created: string[] = []
  try {
    const complete = { ...settings, rootfs: await copyRoot(lab, plan, created, task) }
    const spec = await containerSpec(lab, newid, complete)
    const { systemd } = await lab.containers.afterClone(spec)
    warnWithoutNesting(lab, spec, systemd, task)
    guest.config = complete
    await lab.guests.save(guest)
    await reserved.finish(task)
  } catch (error) {
    await abandonGuest(lab, newid, created, task.log)
    throw failure(`clone failed: ${copyMessageOf(task.signal.aborted ? task.signal.reason : error)}`)
  } finally {
    reserved.release()
  }
}

interface ClonePlan {
  /** the source's, or that of its snapshot */
  config: GuestConfig
  /** the clone's, but for its root */
  settings: GuestConfig
  newid: number
  full: boolean
  storage: string | undefined
  snapname: string | undefined
  /** the node that the clone will live on */
  there: Lab
}

/** @throws ApiError where the source, the target or the caller's privileges do not allow it */
async function checkedPlan(call: Call): Promise<ClonePlan> {
  const { lab, vmid, guest: source } = call
  const newid = call.number('newid') as number
  lab.guests.refuseTaken(newid)
  const snapname = call.text('snapname')
  const config = snapname === undefined ? { ...source.config } : snapshotConfig(source, snapname)
  const full = call.flag('full', source.config.template !== 1)
  const storage = call.text('storage')
  if (!full && storage !== undefined) throw failure("parameter 'storage' not allowed for linked clones")
  const { volume } = parseRoot(config.rootfs as string)
  const there = cloneTarget(call, [volume], 'CT')
  checkRootStorage(call, storage ?? storageOf(volume))
  if (!full && !(await canLink(lab, config, snapname))) {
    throw failure(`Linked clone feature for '${volume}' is not available`)
  }
  if (full && snapname === undefined && (await isRunning(lab, vmid))) {
    throw failure(lab.pve.noFullClone)
  }
  return { config, settings: clonedSettings(call, config), newid, full, storage, snapname, there }
}

/** A base volume on a storage that is no directory. */
async function canLink(lab: Lab, config: GuestConfig, snapname: string | undefined): Promise<boolean> {
  const { volume } = parseRoot(config.rootfs as string)
  const isBase = /(^|[:/])base-\d+-[^/]*$/.test(volume)
  return snapname === undefined && isBase && findStorage(lab, storageOf(volume)).type !== 'dir'
}

/** Tags, description and protection come along; MACs do not. */
function clonedSettings(call: Call, config: GuestConfig): GuestConfig {
  const settings: GuestConfig = {}
  for (const [name, value] of Object.entries(config)) {
    if (NOT_CLONED.test(name)) continue
    if (isNet(name)) checkBridge(call, parseNet(value))
    settings[name] = isNet(name) ? withNewMac(value) : value
  }
  const hostname = call.text('hostname')
  if (hostname !== undefined) settings.hostname = hostname
  const description = call.text('description')
  if (description === undefined) return settings
  const { description: _old, ...rest } = settings
  const stored = storedDescription(description)
  return { ...rest, ...(stored !== undefined && { description: stored }) }
}

/** Gives the value of `rootfs`. */
async function copyRoot(
  lab: Lab,
  { config, newid, full, storage, snapname }: ClonePlan,
  created: string[],
  { log, signal }: TaskContext,
): Promise<string> {
  signal.throwIfAborted()
  const root = parseRoot(config.rootfs as string)
  const from = findStorage(lab, storageOf(root.volume))
  log(`create ${full ? 'full' : 'linked'} clone of mountpoint rootfs (${root.volume})`)
  const source = { storage: from, volid: root.volume, ...(snapname !== undefined && { snapshot: snapname }) }
  const volume = full
    ? await findStorage(lab, storage ?? from.id).cloneRoot(source, newid, log, signal)
    : await from.linkedClone(root.volume, newid, log)
  created.push(volume.volid)
  return printRoot({ ...root, volume: volume.volid, size: formatSize(volume.size) })
}

/** GET …/feature */
export async function feature(call: Call): Promise<unknown> {
  const { lab, guest } = call
  const wanted = call.need('feature')
  const snapname = call.text('snapname')
  const has =
    wanted === 'snapshot'
      ? await canSnapshot(lab, guest)
      : wanted === 'clone'
        ? await canLink(lab, guest.config, snapname)
        : true
  return { hasFeature: has ? 1 : 0 }
}
