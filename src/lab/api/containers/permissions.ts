import { isRootTicket } from '../access.ts'
import { failure, parameterError, permissionError } from '../errors.ts'
import { storageOf } from '../guests/drives.ts'
import { checkBridge, requireOnGuest } from '../guests/permissions.ts'
import type { GuestConfig } from '../guests/store.ts'
import { checkTags } from '../guests/tags.ts'
import { type Call, findStorage } from '../router.ts'
import { isNet, parseFeatures, parseNet } from './values.ts'

/** Which privilege each option of a container needs. */

const NEEDS: readonly (readonly [RegExp, string])[] = [
  [/^(cores|cpuunits|cpulimit)$/, 'VM.Config.CPU'],
  [/^(rootfs|mp\d+|unused\d+)$/, 'VM.Config.Disk'],
  [/^(memory|swap)$/, 'VM.Config.Memory'],
  [/^(net\d+|nameserver|searchdomain|hostname)$/, 'VM.Config.Network'],
]

export interface OptionChange {
  /** what it is now; undefined for a new container */
  old?: GuestConfig
  /** what is set */
  set: GuestConfig
  remove: readonly string[]
  unprivileged: boolean
  /** the pool that a new container joins: privileges there do too */
  pool?: string | undefined
}

/** @throws ApiError 403, or 500 for what only root may */
export async function checkOptions(call: Call, change: OptionChange): Promise<void> {
  if (isRootTicket(call.caller)) return
  for (const name of [...Object.keys(change.set), ...change.remove]) {
    const value = change.set[name]
    if (name === 'features') checkFeatures(call, change)
    else if (name === 'tags') await checkTags(call, String(change.old?.tags ?? ''), String(value ?? ''))
    else if (name === 'hookscript') {
      throw permissionError('changing the hookscript is only allowed for root@pam')
    } else if (name === 'lock') throw failure("only root can set 'lock' config")
    else if (/^dev\d+$/.test(name)) {
      throw permissionError('configuring device passthrough is only allowed for root@pam')
    } else {
      const need = NEEDS.find(([pattern]) => pattern.test(name))?.[1] ?? 'VM.Config.Options'
      requireOnGuest(call, [need], change.pool)
      if (isNet(name) && value !== undefined) checkBridge(call, parseNet(value))
    }
  }
}

function checkFeatures(call: Call, { old, set, unprivileged, pool }: OptionChange): void {
  if (!unprivileged) {
    throw permissionError('changing feature flags for privileged container is only allowed for root@pam')
  }
  const [before, after] = [parseFeatures(old?.features), parseFeatures(set.features)]
  const changed = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
    (feature) => before[feature] !== after[feature],
  )
  if (changed.some((feature) => feature !== 'nesting')) {
    throw permissionError('changing feature flags (except nesting) is only allowed for root@pam')
  }
  if (changed.length > 0) requireOnGuest(call, ['VM.Allocate'], pool)
}

const PRIVILEGED = ['/', ['Sys.Modify']] as const

export const mayBePrivileged = (call: Call): boolean =>
  !call.lab.pve.unprivilegedByDefault || call.allowed(...PRIVILEGED)

/** @throws ApiError 403 where the caller may make unprivileged containers only */
export function requirePrivileged(call: Call): void {
  if (!mayBePrivileged(call)) call.require(...PRIVILEGED)
}

/** The storage takes roots of containers, and the caller may use it. */
export function checkRootStorage(call: Call, id: string): void {
  const storage = findStorage(call.lab, id)
  if (!storage.content.includes('rootdir')) {
    throw parameterError({ storage: `storage '${id}' does not support container directories` })
  }
  call.require(`/storage/${id}`, ['Datastore.AllocateSpace'])
}

/** The archive that a container is to be made from. @throws ApiError where it is no such thing, or not the caller's */
export function checkArchive(call: Call, volid: string, content: 'vztmpl' | 'backup'): void {
  const storage = findStorage(call.lab, storageOf(volid))
  const path = `/storage/${storage.id}`
  const [, type, name] = /^[^:]+:([a-z]+)\/([^/]+)$/.exec(volid) ?? []
  if (storage.type !== 'dir' || type === undefined) {
    throw failure(
      `unable to parse ${storage.type === 'dir' ? 'directory' : storage.type} volume name '${volid.replace(/^[^:]*:/, '')}'`,
    )
  }
  if (type !== content) throw failure(`volume '${volid}' has content type '${type}', not '${content}'`)
  if (content === 'vztmpl') {
    call.require(path, ['Datastore.AllocateSpace', 'Datastore.Audit'], true)
    return
  }
  const owner = /^vzdump-lxc-(\d+)-/.exec(name as string)?.[1]
  if (owner === undefined || Number(owner) === call.vmid) return
  if (call.allowed(path, ['Datastore.Allocate'])) return
  call.require(path, ['Datastore.AllocateSpace'])
  call.require(`/vms/${owner}`, ['VM.Backup'])
}
