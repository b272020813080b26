import { failure, messageOf } from '../errors.ts'
import { boolean, optional, string } from '../parameters.ts'
import { type Call, del, findStorage, get, type Lab, on, onAny, post, put, type Route } from '../router.ts'
import { freeUnused, storageOf } from './drives.ts'
import { KINDS } from './kinds.ts'
import { checkLock, type Guest, type GuestConfig, type Snapshot, TASK_LOCK_SECONDS } from './store.ts'

/** Snapshots of disks, for both kinds of guests; the lab keeps no RAM state. */

const UNUSED = /^unused\d+$/

/** qcow2 in a directory, anything on storage with snapshots of its own. */
export async function canSnapshot(
  lab: Lab,
  { type, config }: Pick<Guest, 'type' | 'config'>,
): Promise<boolean> {
  for (const [, volid] of KINDS[type].disks(config)) {
    if (!volid.includes(':')) return false
    const storage = findStorage(lab, storageOf(volid))
    if (storage.type === 'dir' && (await storage.find(volid))?.format !== 'qcow2') return false
  }
  return true
}

export function listSnapshots(call: Call): Promise<unknown[]> {
  const { lab, vmid, guest } = call
  const rows = Object.entries(guest.snapshots).map(([name, { snaptime, description = '', parent }]) => ({
    name,
    snaptime,
    description,
    ...(call.type === 'qemu' && { vmstate: 0 }),
    ...(parent !== undefined && { parent }),
  }))
  return KINDS[call.type].isRunning(lab, vmid).then((running) => [
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
  return call.task(KINDS[call.type].tasks + type, vmid, ({ log }) =>
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const { guest } = call
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
  const kind = KINDS[call.type]
  lab.guests.need(vmid, call.type)
  const description = call.text('description')
  return lockedTask(call, 'snapshot', 'snapshot', async (guest, log) => {
    if (guest.config.template === 1) throw failure("you can't take a snapshot if it's a template")
    if (guest.snapshots[name]) throw failure(`snapshot name '${name}' already used`)
    if (!(await canSnapshot(lab, guest))) throw failure('snapshot feature is not available')
    const running = await kind.isRunning(lab, vmid)
    if (running && call.flag('vmstate'))
      throw failure('the lab keeps no RAM state: take the snapshot without vmstate')
    const done: [string, string][] = []
    try {
      for (const [slot, volid] of kind.disks(guest.config)) {
        await kind.snapshot({ lab, vmid, slot, volid, name, running }, log)
        done.push([slot, volid])
      }
    } catch (error) {
      for (const [slot, volid] of done) await kind.deleteSnapshot({ lab, vmid, slot, volid, name, running })
      throw error
    }
    const { lock: _lock, parent, description: _ofGuest, ...config } = guest.config
    guest.snapshots[name] = {
      config: withoutUnused(config),
      snaptime: Math.floor(Date.now() / 1000),
      ...(description !== undefined && { description }),
      ...(parent !== undefined && { parent: String(parent) }),
    }
    guest.config.parent = name
  })
}

function withoutUnused(config: GuestConfig): GuestConfig {
  return Object.fromEntries(Object.entries(config).filter(([option]) => !UNUSED.test(option)))
}

/** What a clone of a snapshot begins with: its own description is the clone's. */
export function snapshotConfig(guest: Guest, name: string): GuestConfig {
  const { config, description } = needSnapshot(guest, name)
  return { ...config, ...(description !== undefined && { description }) }
}

/** The description stays as it is, and so do the volumes that the snapshot does not know. */
function rolledBack({ type, config }: Guest, snapshot: Snapshot, name: string): GuestConfig {
  const kept = Object.entries(config).filter(([option]) => option === 'description' || UNUSED.test(option))
  const result: GuestConfig = { ...Object.fromEntries(kept), ...snapshot.config, parent: name }
  const volids = (of: GuestConfig) => KINDS[type].disks(of).map(([, volid]) => volid)
  const known = new Set(volids(snapshot.config))
  for (const volid of volids(config)) if (!known.has(volid)) result[freeUnused(result)] = volid
  return result
}

export function rollback(call: Call): string {
  const { lab, vmid } = call
  const name = call.need('snapname')
  const kind = KINDS[call.type]
  lab.guests.need(vmid, call.type)
  const again = call.flag('start')
  return call.task(`${kind.tasks}rollback`, vmid, async (task) => {
    await lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const { guest } = call
      checkLock(guest)
      const snapshot = needSnapshot(guest, name)
      if (await kind.isRunning(lab, vmid)) await kind.stop(lab, vmid)
      for (const [, volid] of kind.disks(snapshot.config))
        await findStorage(lab, storageOf(volid)).rollback(volid, name)
      guest.config = rolledBack(guest, snapshot, name)
      guest.pending = {}
      guest.removals = {}
      await lab.guests.save(guest)
    })
    if (again) await kind.start(lab, vmid, task)
  })
}

export function deleteSnapshot(call: Call): string {
  const { lab, vmid } = call
  const name = call.need('snapname')
  const kind = KINDS[call.type]
  lab.guests.need(vmid, call.type)
  return lockedTask(call, 'delsnapshot', 'snapshot-delete', async (guest, log) => {
    const snapshot = needSnapshot(guest, name)
    const running = await kind.isRunning(lab, vmid)
    for (const [slot, volid] of kind.disks(snapshot.config)) {
      try {
        await kind.deleteSnapshot({ lab, vmid, slot, volid, name, running })
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
  const { guest } = call
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
  return snapshotView(needSnapshot(call.guest, call.need('snapname')))
}

/** What is done with one snapshot: the same for both kinds. */
export const snapshotRoutes = (path: string): Route[] => [
  get(path, 'all', {}, () => [{ subdir: 'config' }, { subdir: 'rollback' }]),
  del(path, on('/vms/{vmid}', 'VM.Snapshot'), { force: optional(boolean()) }, deleteSnapshot),
  get(
    `${path}/config`,
    onAny('/vms/{vmid}', 'VM.Snapshot', 'VM.Snapshot.Rollback', 'VM.Audit'),
    {},
    readSnapshot,
  ),
  put(
    `${path}/config`,
    on('/vms/{vmid}', 'VM.Snapshot'),
    { description: optional(string()) },
    describeSnapshot,
  ),
  post(
    `${path}/rollback`,
    onAny('/vms/{vmid}', 'VM.Snapshot', 'VM.Snapshot.Rollback'),
    { start: optional(boolean()) },
    rollback,
  ),
]
