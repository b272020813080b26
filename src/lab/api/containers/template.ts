import { failure } from '../errors.ts'
import { storageOf } from '../guests/drives.ts'
import { removeGuest } from '../guests/remove.ts'
import { checkLock, type Guest, type GuestConfig, LOCK_SECONDS, TASK_LOCK_SECONDS } from '../guests/store.ts'
import { type Call, findStorage, type Lab } from '../router.ts'
import { isRunning } from './lifecycle.ts'
import { parseRoot, printRoot } from './values.ts'

/** The two ends of a container: it becomes a template, or it is destroyed. */

async function checkConvertible(lab: Lab, guest: Guest): Promise<void> {
  checkLock(guest)
  if (Object.keys(guest.snapshots).length > 0) {
    throw failure('unable to create template, because CT contains snapshots')
  }
  if (guest.config.template === 1) throw failure("you can't convert a template to a template")
  if (await isRunning(lab, guest.vmid)) {
    throw failure("you can't convert a CT to template if the CT is running")
  }
}

/** POST …/template: answers null, and goes on in a task that it does not name. */
export async function toTemplate(call: Call): Promise<null> {
  const { lab, vmid } = call
  lab.guests.need(vmid, 'lxc')
  await lab.guests.locked(vmid, LOCK_SECONDS, () => checkConvertible(lab, call.guest))
  call.task('vztemplate', vmid, () =>
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const { guest } = call
      await checkConvertible(lab, guest)
      guest.config = (await asTemplate(lab, guest.config)).config
      await lab.guests.save(guest)
    }),
  )
  return null
}

/** Its root becomes a base volume, which gets another name. */
export async function asTemplate(
  lab: Lab,
  config: GuestConfig,
): Promise<{ config: GuestConfig; volid: string }> {
  const root = parseRoot(config.rootfs as string)
  const { volid } = await findStorage(lab, storageOf(root.volume)).toBase(root.volume)
  return { config: { ...config, rootfs: printRoot({ ...root, volume: volid }), template: 1 }, volid }
}

/** DELETE /nodes/{node}/lxc/{vmid} */
export async function destroy(call: Call): Promise<string> {
  const { lab, vmid } = call
  const force = call.flag('force')
  const running = `unable to destroy CT ${vmid} - container is running`
  const check = (guest: Guest) => {
    if (guest.config.protection === 1) throw failure(`can't remove CT ${vmid} - protection mode enabled`)
    checkLock(guest)
  }
  check(call.guest)
  if (!force && (await isRunning(lab, vmid))) throw failure(running)
  return call.task('vzdestroy', vmid, ({ log }) =>
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const { guest } = call
      check(guest)
      if (await isRunning(lab, vmid)) {
        if (!force) throw failure(running)
        log(`forced to stop CT ${vmid} before destroying!`)
        await lab.containers.stop(vmid)
      }
      await removeGuest(call, guest, log)
    }),
  )
}
