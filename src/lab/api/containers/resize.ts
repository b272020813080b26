import { failure } from '../errors.ts'
import { formatSize, parseSize, storageOf } from '../guests/drives.ts'
import { checkDigest, checkLock, LOCK_SECONDS, TASK_LOCK_SECONDS } from '../guests/store.ts'
import { type Call, findStorage } from '../router.ts'
import { containerSpec } from './spec.ts'
import { parseRoot, printRoot } from './values.ts'

/** PUT …/resize: the size is judged at once, the work is a task. */
export async function resize(call: Call): Promise<string> {
  const { lab, vmid } = call
  lab.guests.need(vmid, 'lxc')
  const bytes = await lab.guests.locked(vmid, LOCK_SECONDS, () => wantedSize(call))
  return call.task('resize', vmid, ({ log }) =>
    lab.guests.locked(vmid, TASK_LOCK_SECONDS, async () => {
      const { guest } = call
      checkLock(guest)
      const root = parseRoot(guest.config.rootfs as string)
      await findStorage(lab, storageOf(root.volume)).resize(root.volume, bytes, log)
      const volume = await findStorage(lab, storageOf(root.volume)).find(root.volume)
      guest.config.rootfs = printRoot({ ...root, size: formatSize(volume?.size ?? bytes) })
      await lab.guests.save(guest)
      await lab.containers.growRoot(await containerSpec(lab, vmid, guest.config), log)
    }),
  )
}

async function wantedSize(call: Call): Promise<number> {
  const { lab, guest } = call
  const slot = call.need('disk')
  checkLock(guest)
  checkDigest(lab.guests, guest, call.text('digest'))
  const value = guest.config[slot]
  if (value === undefined) throw failure(`no such disk '${slot}'`)
  const { volume } = parseRoot(value)
  const found = await findStorage(lab, storageOf(volume)).find(volume)
  if (!found) throw failure(`volume '${volume}' does not exist`)
  const text = call.need('size')
  const given = parseSize(text.replace(/^\+/, ''))
  const bytes = Math.ceil((text.startsWith('+') ? found.size + given : given) / 1024) * 1024
  if (bytes < found.size) throw failure('unable to shrink disk size')
  if (bytes === found.size) throw failure('disk is already at specified size')
  return bytes
}
