import { ApiError, failure } from '../errors.ts'
import { formatSize, storageOf } from '../guests/drives.ts'
import type { GuestConfig } from '../guests/store.ts'
import type { Properties } from '../property-string.ts'
import { type Call, findStorage, type Lab } from '../router.ts'
import type { TaskContext } from '../tasks.ts'
import { parseRoot, printRoot } from './values.ts'

/** What a new container is made from, and the volume that it gets. */

const GIB = 1024 ** 3
/** bytes of a root volume, where no size is asked for */
export const DEFAULT_SIZE = 4 * GIB

export interface RootPlan {
  storage: string
  /** bytes; undefined: as large as the backed up one */
  size: number | undefined
  /** what else is said of the volume: mountoptions, … */
  options: Properties
}

export interface Plan {
  vmid: number
  /** volid */
  archive: string
  settings: GuestConfig
  /** undefined: a backup tells */
  unprivileged: boolean | undefined
  root: RootPlan
  password?: string
  sshPublicKeys?: string
  /** the caller may make containers that are not unprivileged */
  mayBePrivileged: boolean
  /** new MACs for a restored container */
  unique: boolean
}

/** `local:4`, `4`, `volume=local:4,…`, or `storage` alone. */
export function rootPlan(call: Call, restore: boolean): RootPlan {
  const fallback = call.text('storage') ?? 'local'
  const value = call.text('rootfs')
  if (value === undefined) {
    const slot = Object.keys(call.values).find((name) => /^mp\d+$/.test(name))
    if (slot !== undefined) throw failure("mount points configured, but 'rootfs' not set - aborting")
    return { storage: fallback, size: restore ? undefined : DEFAULT_SIZE, options: {} }
  }
  const { volume, size: _size, ...options } = parseRoot(value)
  const [, storage = fallback, size] = /^(?:([^:/]+):)?(\d+(?:\.\d+)?)$/.exec(volume) ?? []
  if (size === undefined) {
    if (volume.includes(':')) findStorage(call.lab, storageOf(volume))
    throw new ApiError(501, `the lab makes the root volume of a container itself: rootfs=<storage>:<GiB>`)
  }
  return { storage, size: Math.round(Number(size) * GIB), options }
}

/** @throws ApiError when it is not there */
export async function archivePath(lab: Lab, volid: string): Promise<string> {
  const storage = findStorage(lab, storageOf(volid))
  if (!(await storage.find(volid))) throw failure(`volume '${volid}' does not exist`)
  return storage.path(volid)
}

/** An empty root volume; gives the value of `rootfs`. */
export async function createRoot(
  lab: Lab,
  { vmid, root }: Plan,
  otherwise: number,
  created: string[],
  { log, signal }: TaskContext,
): Promise<string> {
  signal.throwIfAborted()
  const volume = await findStorage(lab, root.storage).createRoot(vmid, root.size ?? otherwise, log)
  created.push(volume.volid)
  return printRoot({ ...root.options, volume: volume.volid, size: formatSize(volume.size) })
}
