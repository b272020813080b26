import { failure, messageOf } from '../errors.ts'
import type { Call, Lab } from '../router.ts'
import { findStorage } from '../router.ts'
import { drivesOf, isCdrom, storageOf } from './drives.ts'
import { isRunning, startGuest } from './lifecycle.ts'
import { checkLock, type Guest, type GuestConfig, type Snapshot, TASK_LOCK_SECONDS } from './store.ts'

/** Snapshots of disks; the lab keeps no RAM state. */

/** Slot and volume of each disk that takes part. */
function disksOf(config: GuestConfig): [string, string][] {
  return drivesOf(config)
    .filter(([, drive]) => !isCdrom(drive))
    .map(([slot, drive]) => [slot, drive.file])
}

/** qcow2 in a directory, anything on storage with snapshots of its own. */
export async function canSnapshot(lab: Lab, config: GuestConfig): Promise<boolean> {
  for (const [, volid] of disksOf(config)) {
    if (!volid.includes(':')) return false
    const storage = findStorage(lab, storageOf(volid))
    if (storage.type === 'dir' && (await storage.find(volid))?.format !== 'qcow2') return false
  }
  return true
}

export function listSnapshots(call: Call): Promise<unknown[]> {
  const { lab, vmid } = call
  const guest = lab.guests.need(vmid)
  const rows = Object.entries(guest.snapshots).map(([name, { snaptime, description = '', parent }]) => ({
    name,
    snaptime,
    description,
    vmstate: 0,
    ...(parent !== undefined && { parent }),
  }))
  return isRunning(lab, vmid).then((running) => [
    ...rows,
    {
      name: 'current',
      description: 'You are here!',
      running: running ? 1 : 0,
      digest: lab.guests.digest(guest),
      ...(guest.config.parent !== undefined && { parent: guest.config.parent }),
    },
  ])
}

/** Runs a task on a guest with its `lock` set, and takes the lock off whatever happens. */
function lockedTask(
  call: Call,
  type: string,
  lock: string,
  work: (guest: Guest, log: (line: string) => void) => Promise<void>,
): string {
  const { lab, vmid } = call
  return call.task(type, vmid, ({ log }) =>
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const guest = lab.guests.need(vmid)
      checkLock(guest)
      guest.config.lock = lock
      try {
        await work(guest, log)
      } finally {
        delete guest.config.lock
        await lab.guests.save(guest)
      }
    }),
  )
}

function needSnapshot(guest: Guest, name: string) {
  const snapshot = guest.snapshots[name]
  if (!snapshot) throw failure(`snapshot '${name}' does not exist`)
  return snapshot
}

export function createSnapshot(call: Call): string {
  const { lab, vmid } = call
  const name = call.need('snapname')
  if (name === 'current' || name === 'pending')
    throw failure(`unable to use snapshot name '${name}' (reserved name)`)
  lab.guests.need(vmid)
  const description = call.text('description')
  return lockedTask(call, 'qmsnapshot', 'snapshot', async (guest, log) => {
    if (guest.config.template === 1) throw failure("you can't take a snapshot if it's a template")
    if (guest.snapshots[name]) throw failure(`snapshot name '${name}' already used`)
    if (!(await canSnapshot(lab, guest.config))) throw failure('snapshot feature is not available')
    const running = await isRunning(lab, vmid)
    if (running && call.flag('vmstate'))
      throw failure('the lab keeps no RAM state: take the snapshot without vmstate')
    const done: [string, string][] = []
    try {
      for (const [slot, volid] of disksOf(guest.config)) {
        log(`snapshotting 'drive-${slot}' (${volid})`)
        if (running) await lab.machines.snapshotDrive(vmid, slot, name)
        else await findStorage(lab, storageOf(volid)).snapshot(volid, name)
        done.push([slot, volid])
      }
    } catch (error) {
      for (const [slot, volid] of done) await dropDisk(lab, vmid, slot, volid, name, running)
      throw error
    }
    const { lock: _lock, parent, ...config } = guest.config
    const { description: ofGuest, ...kept } = config
    guest.snapshots[name] = {
      config: kept,
      snaptime: Math.floor(Date.now() / 1000),
      ...(description !== undefined && { description }),
      ...(parent !== undefined && { parent: String(parent) }),
      ...(ofGuest !== undefined && { guestDescription: String(ofGuest) }),
    }
    guest.config.parent = name
  })
}

async function dropDisk(
  lab: Lab,
  vmid: number,
  slot: string,
  volid: string,
  name: string,
  running: boolean,
): Promise<void> {
  if (running) await lab.machines.deleteDriveSnapshot(vmid, slot, name)
  else await findStorage(lab, storageOf(volid)).deleteSnapshot(volid, name)
}

/** The configuration that a rollback restores. */
export function snapshotConfig(guest: Guest, name: string): GuestConfig {
  const { config, guestDescription } = needSnapshot(guest, name)
  return { ...config, ...(guestDescription !== undefined && { description: guestDescription }) }
}

export function rollback(call: Call): string {
  const { lab, vmid } = call
  const name = call.need('snapname')
  lab.guests.need(vmid)
  const again = call.flag('start')
  return call.task('qmrollback', vmid, async ({ log }) => {
    await lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const guest = lab.guests.need(vmid)
      checkLock(guest)
      const config = snapshotConfig(guest, name)
      if (await isRunning(lab, vmid)) await lab.machines.stop(vmid)
      for (const [, volid] of disksOf(config)) await findStorage(lab, storageOf(volid)).rollback(volid, name)
      guest.config = { ...config, parent: name }
      guest.pending = {}
      guest.removals = {}
      await lab.guests.save(guest)
    })
    if (again) await startGuest(lab, vmid, log)
  })
}

export function deleteSnapshot(call: Call): string {
  const { lab, vmid } = call
  const name = call.need('snapname')
  lab.guests.need(vmid)
  return lockedTask(call, 'qmdelsnapshot', 'snapshot-delete', async (guest, log) => {
    const snapshot = needSnapshot(guest, name)
    const running = await isRunning(lab, vmid)
    for (const [slot, volid] of disksOf(snapshot.config)) {
      try {
        await dropDisk(lab, vmid, slot, volid, name, running)
      } catch (error) {
        if (!call.flag('force')) throw error
        log(messageOf(error))
      }
    }
    for (const other of Object.values(guest.snapshots)) {
      if (other.parent === name) setParent(other, snapshot.parent)
    }
    if (guest.config.parent === name) setParent(guest.config, snapshot.parent)
    delete guest.snapshots[name]
  })
}

function setParent(holder: { parent?: string | number }, parent: string | undefined): void {
  if (parent === undefined) delete holder.parent
  else holder.parent = parent
}

export async function describeSnapshot(call: Call): Promise<null> {
  const guest = call.lab.guests.need(call.vmid)
  const snapshot = needSnapshot(guest, call.need('snapname'))
  const description = call.text('description')
  if (description !== undefined) snapshot.description = description
  await call.lab.guests.save(guest)
  return null
}

/** A snapshot as `GET …/config?snapshot=` shows it. */
export function snapshotView({ config, snaptime, description, parent }: Snapshot): GuestConfig {
  return {
    ...config,
    snaptime,
    ...(description !== undefined && { description }),
    ...(parent !== undefined && { parent }),
  }
}

export function readSnapshot(call: Call): GuestConfig {
  return snapshotView(needSnapshot(call.lab.guests.need(call.vmid), call.need('snapname')))
}
