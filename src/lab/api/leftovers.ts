import { readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Storage } from '../world.ts'
import type { Guest } from './guests/store.ts'
import { UPLOAD_PREFIX } from './multipart.ts'
import type { Lab } from './router.ts'

/** What a killed daemon left: half uploads, guests whose create or clone never ended, and the lock on its source. */
export async function clearLeftovers(lab: Lab): Promise<void> {
  for (const storage of lab.storages.values()) {
    const folder = uploadFolder(storage)
    if (folder === undefined) continue
    for (const name of await readdir(folder).catch(() => [] as string[])) {
      if (name.startsWith(UPLOAD_PREFIX)) await rm(join(folder, name), { force: true })
    }
  }
  for (const guest of lab.guests.all()) {
    const { lock } = guest.config
    if (lock === 'create' || lock === 'clone') await removeUnfinished(lab, guest)
    if (lock !== 'disk') continue
    delete guest.config.lock
    await lab.guests.save(guest)
  }
}

async function removeUnfinished(lab: Lab, { vmid }: Guest): Promise<void> {
  for (const storage of lab.storages.values()) {
    for (const volume of await storage.list()) {
      if (volume.content === 'images' && volume.vmid === vmid) await storage.remove(volume.volid)
    }
  }
  await lab.guests.remove(vmid)
}

/** Where uploads for this storage are put: beside their final place. */
export function uploadFolder(storage: Storage): string | undefined {
  const content = (['import', 'iso', 'vztmpl'] as const).find((type) => storage.content.includes(type))
  if (storage.type !== 'dir' || content === undefined) return undefined
  return dirname(storage.place(content, 'x').path)
}
