import { failure, messageOf } from '../errors.ts'
import { cloneTarget } from '../guests/clone-target.ts'
import { formatSize, storageOf } from '../guests/drives.ts'
import { abandonGuest, reserveGuest } from '../guests/new-guest.ts'
import { checkBridge } from '../guests/permissions.ts'
import { canSnapshot, snapshotConfig } from '../guests/snapshots.ts'
import { checkLock, type GuestConfig, LOCK_SECONDS, TASK_LOCK_SECONDS } from '../guests/store.ts'
import { type Call, findStorage, type Lab } from '../router.ts'
import type { TaskContext } from '../tasks.ts'
import { isRunning } from './lifecycle.ts'
import { checkRootStorage } from './permissions.ts'
import { containerSpec } from './spec.ts'
import { isNet, parseNet, parseRoot, printRoot, storedDescription, withNewMac } from './values.ts'

/** Copies of containers: full, or on storages that can, linked to a template's base volume. */

/** options that are the source's own affair */
const NOT_CLONED = /^(template|lock|parent|unused\d+)$/

export async function clone(call: Call): Promise<string> {
  const { lab, vmid, guest: source } = call
  const newid = call.number('newid') as number
  const pool = call.text('pool')
  if (pool !== undefined && !lab.access.state.pools[pool]) throw failure(`pool '${pool}' does not exist`)
  checkLock(source)
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
    throw failure('Cannot do full clones on a running container without snapshots')
  }
  const settings = clonedSettings(call, config)

  const wanted = { vmid: newid, type: 'lxc', config: { lock: 'create' }, pool } as const
  const { guest, release } = await reserveGuest(there, wanted, LOCK_SECONDS)
  return call.task('vzclone', vmid, async (task) => {
    const created: string[] = []
    const plan = { config, newid, full, storage, snapname }
    try {
      const rootfs = await lab.guests.locked(vmid, TASK_LOCK_SECONDS, () =>
        copyRoot(lab, plan, created, task),
      )
      const complete = { ...settings, rootfs }
      await lab.containers.afterClone(await containerSpec(lab, newid, complete))
      guest.config = complete
      await lab.guests.save(guest)
    } catch (error) {
      await abandonGuest(lab, newid, created, task.log)
      throw failure(`clone failed: ${messageOf(task.signal.aborted ? task.signal.reason : error)}`)
    } finally {
      release()
    }
  })
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

interface CopyPlan {
  config: GuestConfig
  newid: number
  full: boolean
  storage: string | undefined
  snapname: string | undefined
}

/** Gives the value of `rootfs`. */
async function copyRoot(
  lab: Lab,
  { config, newid, full, storage, snapname }: CopyPlan,
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
