import { failure } from '../errors.ts'
import type { Call } from '../router.ts'
import { CLOUDINIT_OPTIONS, cloudInitPart, type Part, writeCloudInitDrive } from './cloudinit.ts'
import { HIDDEN } from './config.ts'
import { isRunning } from './lifecycle.ts'
import { checkLock, LOCK_SECONDS, withPending } from './store.ts'

/** What the API shows of a guest's cloud-init options, and makes of them on demand. */

/** GET …/cloudinit */
export function readCloudInit(call: Call): unknown[] {
  const guest = call.lab.guests.need(call.vmid)
  const all = withPending(guest)
  return Object.keys({ ...guest.config, ...all })
    .filter((key) => CLOUDINIT_OPTIONS.test(key))
    .map((key) => {
      const hide = (value: string | number) => (key === 'cipassword' ? HIDDEN : value)
      const value = guest.config[key]
      return {
        key,
        ...(value !== undefined && { value: hide(value) }),
        ...(guest.pending[key] !== undefined && { pending: hide(guest.pending[key]) }),
        ...(guest.removals[key] !== undefined && { delete: 1 }),
      }
    })
}

/** PUT …/cloudinit: writes the drive anew. */
export async function regenerateCloudInit(call: Call): Promise<null> {
  const { lab, vmid } = call
  lab.guests.need(vmid)
  await lab.guests.locked(vmid, LOCK_SECONDS, async () => {
    const guest = lab.guests.need(vmid)
    checkLock(guest)
    if (await isRunning(lab, vmid)) throw failure('the lab writes a cloud-init drive at the next start')
    await writeCloudInitDrive(lab, vmid, withPending(guest), () => undefined)
  })
  return null
}

/** GET …/cloudinit/dump */
export function dumpCloudInit(call: Call): Promise<string> {
  const guest = call.lab.guests.need(call.vmid)
  return cloudInitPart(call.lab, call.vmid, withPending(guest), call.need('type') as Part)
}
