import { failure, parameterError } from '../errors.ts'
import { splitList } from '../formats.ts'
import {
  checkDigest,
  checkLock,
  type Guest,
  type GuestConfig,
  LOCK_SECONDS,
  withPending,
} from '../guests/store.ts'
import type { Call, Lab } from '../router.ts'
import { CONTAINER_OPTIONS } from './options.ts'
import { checkOptions } from './permissions.ts'
import { completeOptions, containerOptions } from './settings.ts'
import { rootVolume } from './values.ts'

/** Changing a container's configuration, with what has to wait for the next start. */

/** taken over at once where the container runs; the lab's limits of memory and processors bind from its next start */
const IMMEDIATE =
  /^(description|onboot|startup|protection|hostname|hookscript|cores|cpulimit|cpuunits|memory|swap|tags|lock|unused\d+)$/
const READ_ONLY = ['unprivileged', 'arch', 'ostype']
const REQUIRED = ['rootfs', 'memory']

/** PUT …/config: done when it returns. */
export async function updateConfig(call: Call): Promise<null> {
  const { lab, vmid } = call
  const options = containerOptions(call)
  const remove = splitList(call.text('delete') ?? '')
  const revert = splitList(call.text('revert') ?? '')
  for (const [parameter, names] of Object.entries({ delete: remove, revert })) {
    for (const name of names) {
      if (!(name in CONTAINER_OPTIONS)) throw parameterError({ [parameter]: `unknown option '${name}'` })
    }
  }
  if (Object.keys(options).length + remove.length + revert.length === 0) throw failure('no options specified')
  lab.guests.need(vmid, 'lxc')
  await lab.guests.locked(vmid, LOCK_SECONDS, async () => {
    const { guest } = call
    // Else nobody could take a lock off again.
    checkLock(guest, remove.includes('lock'))
    checkDigest(lab.guests, guest, call.text('digest'))
    const old = withPending(guest)
    await checkOptions(call, { old, set: options, remove, unprivileged: guest.config.unprivileged === 1 })
    for (const name of revert) {
      delete guest.pending[name]
      delete guest.removals[name]
    }
    for (const name of remove) removeOption(guest, name)
    setOptions(guest, options)
    settle(guest, (await lab.containers.status(vmid)).running)
    await lab.guests.save(guest)
  })
  return null
}

function removeOption(guest: Guest, name: string): void {
  if (REQUIRED.includes(name)) throw failure(`unable to delete required option '${name}'`)
  if (READ_ONLY.includes(name)) throw failure(`unable to delete read-only option: '${name}'`)
  delete guest.pending[name]
  if (guest.config[name] !== undefined) guest.removals[name] = 0
}

function setOptions(guest: Guest, options: GuestConfig): void {
  for (const name of READ_ONLY) {
    if (options[name] !== undefined && options[name] !== (guest.config[name] ?? 0)) {
      throw failure(`unable to modify read-only option: '${name}'`)
    }
  }
  if (options.rootfs !== undefined) checkRoot(guest, String(options.rootfs))
  if (options.description === '') removeOption(guest, 'description')
  for (const [name, value] of Object.entries(completeOptions(options))) {
    delete guest.removals[name]
    if (guest.config[name] === value) delete guest.pending[name]
    else guest.pending[name] = value
  }
}

/** Another root would be another container; saying again which it has is no change. */
function checkRoot(guest: Guest, value: string): void {
  if (rootVolume({ rootfs: value }) !== rootVolume(guest.config)) {
    throw failure('the lab does not exchange the root volume of a container')
  }
}

/** Takes over what was waiting: all of it where the container does not run. */
export function settle(guest: Guest, running: boolean): void {
  for (const name of Object.keys(guest.removals)) {
    if (running && !IMMEDIATE.test(name)) continue
    delete guest.removals[name]
    delete guest.config[name]
  }
  for (const [name, value] of Object.entries(guest.pending)) {
    if (running && !IMMEDIATE.test(name)) continue
    delete guest.pending[name]
    guest.config[name] = value
  }
}

/** Everything that waited, for a container that does not run. */
export async function applyPending(lab: Lab, guest: Guest): Promise<void> {
  if (Object.keys(guest.pending).length + Object.keys(guest.removals).length === 0) return
  settle(guest, false)
  await lab.guests.save(guest)
}
