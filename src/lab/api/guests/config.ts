import { failure, parameterError } from '../errors.ts'
import { splitList } from '../formats.ts'
import type { Call, Lab } from '../router.ts'
import { findStorage } from '../router.ts'
import { allocateDrives, removeVolumes } from './allocate.ts'
import { checkCloudInitKeys, completeOptions, guestOptions } from './create.ts'
import {
  bootOrder,
  freeUnused,
  isCdrom,
  isCloudInit,
  isDriveSlot,
  parseDrive,
  printBootOrder,
  storageOf,
} from './drives.ts'
import { isRunning } from './lifecycle.ts'
import { mediumPath } from './machine-spec.ts'
import { GUEST_OPTIONS } from './options.ts'
import { checkDriveChange, checkDrives, checkOptions } from './permissions.ts'
import { snapshotView } from './snapshots.ts'
import { checkDigest, checkLock, type Guest, type GuestConfig, LOCK_SECONDS, withPending } from './store.ts'
import { checkTags, normalTags } from './tags.ts'

/** Reading and changing a guest's configuration, with what has to wait for the next start. */

/** takes effect on a running guest at once */
const IMMEDIATE =
  /^(lock|migrate_downtime|migrate_speed|name|onboot|protection|shares|startup|description|vmstatestorage|tags|hookscript|unused\d+)$/

/** What stands for a password in answers. */
export const HIDDEN = '**********'

/** GET …/config: with what is pending, unless `current`; or that of a snapshot. */
export function readConfig(call: Call): Record<string, unknown> {
  const { guest } = call
  const name = call.text('snapshot')
  const snapshot = name === undefined ? undefined : guest.snapshots[name]
  if (name !== undefined && !snapshot) throw failure(`snapshot '${name}' does not exist`)
  const config: GuestConfig = snapshot
    ? snapshotView(snapshot)
    : call.flag('current')
      ? { ...guest.config }
      : withPending(guest)
  if (config.cipassword !== undefined) config.cipassword = HIDDEN
  return { ...config, digest: call.lab.guests.digest(guest) }
}

/** GET …/pending */
export function readPending(call: Call): unknown[] {
  const { guest } = call
  const hide = (key: string, value: string | number) => (key === 'cipassword' ? HIDDEN : value)
  const rows: Record<string, unknown>[] = Object.entries(guest.config).map(([key, value]) => ({
    key,
    value: hide(key, value),
    ...(guest.pending[key] !== undefined && { pending: hide(key, guest.pending[key]) }),
    ...(guest.removals[key] !== undefined && { delete: guest.removals[key] === 1 ? 2 : 1 }),
  }))
  for (const [key, value] of Object.entries(guest.pending)) {
    if (guest.config[key] === undefined) rows.push({ key, pending: hide(key, value) })
  }
  return [...rows, { key: 'digest', value: call.lab.guests.digest(guest) }]
}

interface Change {
  options: GuestConfig
  remove: string[]
  revert: string[]
  force: boolean
  digest: string | undefined
  skipLock: boolean
}

/** Checks a change as far as it goes without the guest's lock. */
async function readChange(call: Call): Promise<Change> {
  const skipLock = call.onlyRoot('skiplock')
  const options = guestOptions(call)
  await checkCloudInitKeys(options)
  const remove = splitList(call.text('delete') ?? '')
  const revert = splitList(call.text('revert') ?? '')
  for (const [parameter, names] of Object.entries({ delete: remove, revert })) {
    for (const name of names) {
      if (!(name in GUEST_OPTIONS)) throw parameterError({ [parameter]: `unknown option '${name}'` })
      if (parameter === 'delete' && options[name] !== undefined) {
        throw parameterError({ delete: `you can't use '-${name}' and -delete ${name}' at the same time` })
      }
    }
  }
  if (Object.keys(options).length + remove.length + revert.length === 0) throw failure('no options specified')
  checkOptions(call, [...Object.keys(options), ...remove, ...revert])
  checkDrives(call, call.vmid, Object.keys(options))
  return {
    options: await completeOptions(options),
    remove,
    revert,
    force: call.flag('force'),
    digest: call.text('digest'),
    skipLock,
  }
}

/** PUT …/config: done when it returns. */
export async function updateConfig(call: Call): Promise<null> {
  const change = await readChange(call)
  const guest = call.lab.guests.need(call.vmid)
  if (call.lab.pve.looksBeforeWaiting) checkBefore(call.lab, guest, change)
  const signal = new AbortController().signal
  await call.lab.guests.locked(call.vmid, LOCK_SECONDS, () => apply(call, change, () => undefined, signal))
  return null
}

/** POST …/config: a task. */
export async function updateConfigLater(call: Call): Promise<string | null> {
  const change = await readChange(call)
  const guest = call.lab.guests.need(call.vmid)
  checkBefore(call.lab, guest, change)
  const words = Object.entries(call.values)
    .filter(([name]) => !['node', 'vmid', 'background_delay', 'digest', 'skiplock'].includes(name))
    .map(([name, value]) => `-${name} ${name === 'cipassword' ? '<hidden>' : value}`)
  const upid = call.task('qmconfig', call.vmid, async ({ log, signal }) => {
    log(`update VM ${call.vmid}: ${words.join(' ')}`)
    await call.lab.guests.locked(call.vmid, LOCK_SECONDS, () => apply(call, change, log, signal))
  })
  const seconds = call.number('background_delay')
  if (seconds === undefined) return upid
  await call.lab.tasks.ended(upid, seconds)
  return call.lab.tasks.isRunning(upid) ? upid : null
}

function checkBefore(lab: Lab, guest: Guest, change: Change): void {
  checkDigest(lab.guests, guest, change.digest)
  checkLock(guest, change.skipLock)
}

async function apply(
  call: Call,
  change: Change,
  log: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { lab, vmid } = call
  const guest = lab.guests.need(vmid)
  checkBefore(lab, guest, change)
  const tags = change.options.tags ?? (change.remove.includes('tags') ? '' : undefined)
  if (tags !== undefined) await checkTags(call, String(withPending(guest).tags ?? ''), String(tags))
  const running = await isRunning(lab, vmid)
  for (const name of change.revert) {
    delete guest.pending[name]
    delete guest.removals[name]
  }
  for (const name of change.remove) {
    const value = withPending(guest)[name]
    if (value === undefined) continue
    if (isDriveSlot(name)) {
      checkDriveChange(call, vmid, name, value)
      if (guest.config.protection === 1)
        throw failure(`can't remove drive '${name}' - protection mode enabled`)
    }
    const order = bootOrder(withPending(guest))
    if (order.includes(name)) guest.pending.boot = printBootOrder(order.filter((device) => device !== name))
    delete guest.pending[name]
    if (guest.config[name] !== undefined) guest.removals[name] = change.force ? 1 : 0
  }
  await set(call, guest, change.options, running, log, signal)
  await settle(lab, guest, running, log)
  await lab.guests.save(guest)
}

async function set(
  call: Call,
  guest: Guest,
  options: GuestConfig,
  running: boolean,
  log: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { lab, vmid } = call
  const before = withPending(guest)
  for (const slot of Object.keys(options).filter(isDriveSlot)) {
    checkDriveChange(call, vmid, slot, options[slot] as string)
    if (before[slot] !== undefined) checkDriveChange(call, vmid, slot, before[slot])
  }
  const created: string[] = []
  try {
    const drives = await allocateDrives(lab, vmid, options, created, log, signal)
    for (const [name, given] of Object.entries({ ...options, ...drives })) {
      const value = name === 'tags' ? normalTags(String(given)) : given
      delete guest.removals[name]
      if (guest.config[name] === value) delete guest.pending[name]
      else guest.pending[name] = value
      if (!isDriveSlot(name)) continue
      const drive = parseDrive(name, value)
      const order = bootOrder(withPending(guest))
      // A CD-ROM that is put in is made bootable too.
      if (isCdrom(drive) && order.length > 0 && !order.includes(name) && options.boot === undefined) {
        guest.pending.boot = printBootOrder([...order, name])
      }
      await changeMedium(lab, guest, name, running)
    }
  } catch (error) {
    await removeVolumes(lab, created, log)
    throw error
  }
}

/** A CD-ROM's medium can be changed under a running guest; a drive cannot. */
async function changeMedium(lab: Lab, guest: Guest, slot: string, running: boolean): Promise<void> {
  const value = guest.pending[slot]
  const old = guest.config[slot]
  if (!running || value === undefined || old === undefined) return
  const drive = parseDrive(slot, value)
  if (!isCdrom(drive) || !isCdrom(parseDrive(slot, old))) return
  await lab.machines.changeMedium(guest.vmid, slot, await mediumPath(lab, drive.file))
  guest.config[slot] = value
  delete guest.pending[slot]
}

async function settle(lab: Lab, guest: Guest, running: boolean, log: (line: string) => void): Promise<void> {
  if (!running) return applyPending(lab, guest, log)
  for (const name of [...Object.keys(guest.pending), ...Object.keys(guest.removals)]) {
    if (IMMEDIATE.test(name)) await settleOne(lab, guest, name)
  }
}

/** Everything that waited, for a guest that does not run. */
export async function applyPending(lab: Lab, guest: Guest, _log: (line: string) => void): Promise<void> {
  const names = [...Object.keys(guest.removals), ...Object.keys(guest.pending)]
  if (names.length === 0) return
  for (const name of names) await settleOne(lab, guest, name)
  await lab.guests.save(guest)
}

async function settleOne(lab: Lab, guest: Guest, name: string): Promise<void> {
  const force = guest.removals[name]
  const value = guest.pending[name]
  const old = guest.config[name]
  if (force !== undefined) {
    delete guest.removals[name]
    delete guest.config[name]
    if (old !== undefined) await releaseOld(lab, guest, name, old, force === 1)
  } else if (value !== undefined) {
    delete guest.pending[name]
    guest.config[name] = value
    if (
      old !== undefined &&
      isDriveSlot(name) &&
      parseDrive(name, old).file !== parseDrive(name, value).file
    ) {
      await releaseOld(lab, guest, name, old, false)
    }
  }
}

/** A detached disk becomes `unusedN`, unless forced; what is a guest's own and worthless goes at once. */
async function releaseOld(
  lab: Lab,
  guest: Guest,
  name: string,
  old: string | number,
  force: boolean,
): Promise<void> {
  if (/^unused\d+$/.test(name)) return findStorage(lab, storageOf(String(old))).remove(String(old))
  if (!isDriveSlot(name)) return
  const drive = parseDrive(name, old)
  if (!drive.file.includes(':') || (isCdrom(drive) && !isCloudInit(drive))) return
  if (force || isCloudInit(drive)) await findStorage(lab, storageOf(drive.file)).remove(drive.file)
  else guest.config[freeUnused(guest.config)] = drive.file
}

/** PUT …/unlink */
export async function unlink(call: Call): Promise<null> {
  const { lab, vmid } = call
  const names = splitList(call.need('idlist'))
  for (const name of names) {
    if (!isDriveSlot(name) && !/^unused\d+$/.test(name))
      throw parameterError({ idlist: `unknown option '${name}'` })
  }
  const change: Change = {
    options: {},
    remove: names,
    revert: [],
    force: call.flag('force'),
    digest: undefined,
    skipLock: false,
  }
  lab.guests.need(vmid)
  const signal = new AbortController().signal
  await lab.guests.locked(vmid, LOCK_SECONDS, () => apply(call, change, () => undefined, signal))
  return null
}
