import type { StoredDisk, StoredFile } from './answers.ts'
import type { FileContent } from './api.ts'
import type { Pve } from './client.ts'
import { PveError } from './errors.ts'
import { isAnswerLost, TRIES } from './lost-answer.ts'
import type { Place } from './place.ts'

/** The storage for files of one content type. */
export function storageFor({ storages }: Place, content: FileContent): string {
  return content === 'vztmpl' ? storages.archives : storages.images
}

/** The files of one content type on the storage for it. */
export async function listFiles(pve: Pve, place: Place, content: FileContent): Promise<StoredFile[]> {
  return await pve.api.nodes.$(place.node).storage.$(storageFor(place, content)).content.$get({ content })
}

/** Bytes of a listed file: where the list does not say it, Proxmox does when it is asked for this one, or nobody can. */
export async function sizeOfStored(
  pve: Pve,
  { node }: Place,
  { volid, size }: StoredFile,
): Promise<number | undefined> {
  if (size !== undefined) return size
  const storage = pve.api.nodes.$(node).storage.$(volid.slice(0, volid.indexOf(':')))
  try {
    return (await storage.content.$(volid).$get()).size
  } catch (error) {
    if (error instanceof PveError && error.delivery === 'answered') return undefined
    throw error
  }
}

/**
 * The volumes on a storage, of one guest or of all; undefined where these credentials may not look at it. Files may be
 * among them; they have no VMID.
 */
export async function listDisks(
  pve: Pve,
  node: string,
  storage: string,
  vmid?: number,
): Promise<StoredDisk[] | undefined> {
  const query = vmid === undefined ? {} : { vmid }
  try {
    return await pve.api.nodes.$(node).storage.$(storage).content.$get(query)
  } catch (error) {
    if (error instanceof PveError && error.status === 403) return undefined
    throw error
  }
}

export function filenameOf(file: { volid: string }): string {
  return file.volid.slice(file.volid.lastIndexOf('/') + 1)
}

export async function removeFile(pve: Pve, place: Place, volid: string): Promise<void> {
  const { content } = pve.api.nodes.$(place.node).storage.$(volid.slice(0, volid.indexOf(':')))
  for (let tries = 1; ; tries += 1) {
    try {
      // With `delay` Proxmox waits for the deletion and answers null; a longer one comes back as a task.
      const upid = await content.$(volid).$delete({ delay: 5 })
      if (upid !== null) await pve.waitTask(upid, { seconds: 60 })
      return
    } catch (error) {
      if (!isAnswerLost(error) || tries === TRIES) throw error
      const files = await content.$get()
      if (!files.some((file) => file.volid === volid)) return
    }
  }
}
