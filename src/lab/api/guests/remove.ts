import { failure } from '../errors.ts'
import { type Call, findStorage, type Lab } from '../router.ts'
import { drivesOf, isCloudInit, ownsVolume, printDrive, storageOf } from './drives.ts'
import { KINDS } from './kinds.ts'
import { isRunning } from './lifecycle.ts'
import { leavePools } from './new-guest.ts'
import { checkLock, type Guest, LOCK_SECONDS, TASK_LOCK_SECONDS, wordFor } from './store.ts'

/** The two ends of a guest: it becomes a template, or it is destroyed. */

/** POST …/template */
export async function toTemplate(call: Call): Promise<string> {
  const { lab, vmid } = call
  await lab.guests.locked(vmid, LOCK_SECONDS, async () => {
    const guest = lab.guests.need(vmid)
    checkLock(guest)
    if (Object.keys(guest.snapshots).length > 0) {
      throw failure('unable to create template, because VM contains snapshots')
    }
    if (guest.config.template === 1 && !call.has('disk')) {
      throw failure("you can't convert a template to a template")
    }
    if (await isRunning(lab, vmid)) throw failure("you can't convert a VM to template if VM is running")
  })
  const only = call.text('disk')
  return call.task('qmtemplate', vmid, () =>
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const guest = lab.guests.need(vmid)
      if (await isRunning(lab, vmid)) throw failure("you can't convert a VM to template if VM is running")
      guest.config.template = 1
      for (const [slot, drive] of drivesOf(guest.config)) {
        if (!ownsVolume(drive) || isCloudInit(drive) || (only !== undefined && only !== slot)) continue
        if (!drive.file.includes(':')) continue
        const volume = await findStorage(lab, storageOf(drive.file)).toBase(drive.file)
        guest.config[slot] = printDrive(slot, { ...drive, file: volume.volid })
        await lab.guests.save(guest)
      }
      await lab.guests.save(guest)
    }),
  )
}

/** DELETE /nodes/{node}/qemu/{vmid} */
export async function destroy(call: Call): Promise<string> {
  const { lab, vmid } = call
  const skip = call.onlyRoot('skiplock')
  const guest = lab.guests.need(vmid)
  if (guest.config.protection === 1) throw failure(`can't remove VM ${vmid} - protection mode enabled`)
  if (await isRunning(lab, vmid)) throw failure(`VM ${vmid} is running - destroy failed`)
  return call.task('qmdestroy', vmid, ({ log }) =>
    // Behind a create that is about to end, this waits, and then destroys what the create has made.
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const now = lab.guests.need(vmid)
      checkLock(now, skip)
      if (now.config.protection === 1) throw failure(`can't remove VM ${vmid} - protection mode enabled`)
      if (await isRunning(lab, vmid)) throw failure(`VM ${vmid} is running - destroy failed`)
      await removeGuest(call, now, log)
    }),
  )
}

/** The guest with its volumes, and what is known of it elsewhere. */
export async function removeGuest(call: Call, guest: Guest, log: (line: string) => void): Promise<void> {
  const settled = call.lab.guests.beginChange(guest)
  await removeAll(call, guest, log).finally(settled)
}

async function removeAll(call: Call, guest: Guest, log: (line: string) => void): Promise<void> {
  const { lab } = call
  const { vmid } = guest
  await refuseBasesInUse(lab, guest)
  for (const volid of volumesOf(guest)) {
    const storage = findStorage(lab, storageOf(volid))
    if (await storage.find(volid)) await storage.remove(volid)
    else log(`disk image '${storage.path(volid)}' does not exist`)
  }
  if (call.flag('destroy-unreferenced-disks')) await removeStrays(lab, vmid, log)
  await lab.guests.remove(vmid)
  await leavePools(lab, vmid)
  if (!call.flag('purge')) return
  log(`purging ${wordFor(guest.type)} ${vmid} from related configurations..`)
  lab.access.state.acl = lab.access.state.acl.filter((entry) => entry.path !== `/vms/${vmid}`)
  await lab.access.save()
}

/** All volumes that are the guest's own: attached, detached, pending, and what only a snapshot still knows. */
function volumesOf(guest: Guest): string[] {
  const configs = [guest.config, guest.pending, ...Object.values(guest.snapshots).map(({ config }) => config)]
  const found = new Set<string>()
  for (const config of configs) {
    for (const volid of KINDS[guest.type].volumes(config)) {
      if (isOwn(volid, guest.vmid)) found.add(volid)
    }
    for (const [name, value] of Object.entries(config)) {
      if (/^unused\d+$/.test(name) && isOwn(String(value), guest.vmid)) found.add(String(value))
    }
  }
  return [...found]
}

function isOwn(volid: string, vmid: number): boolean {
  const name = volid.split(/[:/]/).at(-1) ?? ''
  return new RegExp(`^(vm|base)-${vmid}-`).test(name)
}

async function refuseBasesInUse(lab: Lab, guest: Guest): Promise<void> {
  if (guest.config.template !== 1) return
  for (const volid of volumesOf(guest)) {
    const clones = await findStorage(lab, storageOf(volid)).clonesOf(volid)
    if (clones.length > 0) throw failure(`base volume '${volid}' is still in use by linked cloned`)
  }
}

async function removeStrays(lab: Lab, vmid: number, log: (line: string) => void): Promise<void> {
  for (const storage of lab.storages.values()) {
    for (const volume of await storage.list()) {
      if (volume.content !== 'images' || volume.vmid !== vmid || !isOwn(volume.volid, vmid)) continue
      log(`destroying unreferenced disk '${volume.volid}'`)
      await storage.remove(volume.volid)
    }
  }
}
