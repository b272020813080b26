import { ImagebuildError } from '../core/errors.ts'
import { pauses } from '../core/pauses.ts'
import { poll, withDeadline } from '../core/scope.ts'
import type { FileContent } from './api.ts'
import type { Pve } from './client.ts'
import { APPEARS_MILLISECONDS, isAnswerLost } from './lost-answer.ts'
import type { Place } from './place.ts'
import { sizeOf, type Upload, type UploadOptions } from './upload.ts'
import { filenameOf, listFiles, storageFor } from './volumes.ts'

/** Files on their way to a storage. */

export interface PutOptions extends UploadOptions {
  /** seconds for the task that moves the file into its place */
  seconds: number
  onLog?: (line: string) => void
  /** told the task's UPID: who gives up must wait for it, since Proxmox goes on */
  onTask?: (upid: string) => void
}

/** Times that one file is sent at most: it may be large. */
const UPLOADS = 2

/**
 * Uploads a file and waits until it is in its place. Where the answer is lost, the storage's list tells whether it has
 * arrived; it is sent again only where it has not.
 * @returns its volume id
 */
export async function putFile(
  pve: Pve,
  place: Place,
  file: Upload & { content: FileContent },
  options: PutOptions,
): Promise<string> {
  const { seconds, onLog, onTask, signal } = options
  for (let uploads = 1; ; uploads += 1) {
    try {
      const upid = await pve.upload(place.node, storageFor(place, file.content), file, options)
      onTask?.(upid)
      await pve.waitTask(upid, { seconds, signal, ...(onLog && { onLog }) })
      break
    } catch (error) {
      if (!isAnswerLost(error)) throw error
      const volid = await arrived(pve, place, file, options)
      if (volid !== undefined) return volid
      if (uploads === UPLOADS) throw error
    }
  }
  return await volidOf(pve, place, file.content, file.filename)
}

/**
 * Its volume id, once it is there; undefined where it is not, and no upload is on its way to the storage. Of which file a task
 * is, Proxmox does not say: others' are waited for too, if not for longer than the file's own task might take.
 */
async function arrived(
  pve: Pve,
  place: Place,
  { content, filename, source }: Upload & { content: FileContent },
  { seconds, signal }: PutOptions,
): Promise<string | undefined> {
  const { node } = place
  const query = { typefilter: 'imgcopy', source: 'active' } as const
  const size = await sizeOf(source)
  const until = pauses.running() + APPEARS_MILLISECONDS
  using patience = withDeadline(signal, seconds, `the upload of ${filename}`)
  return await poll(
    async () => {
      const isBusy = (await pve.api.nodes.$(node).tasks.$get(query)).length > 0
      const file = (await listFiles(pve, place, content)).find((one) => filenameOf(one) === filename)
      if (file !== undefined && (!isBusy || file.size === size)) return { volid: file.volid }
      return isBusy || pauses.running() < until ? undefined : { volid: undefined }
    },
    { signal: patience, first: 200, max: 1000 },
  ).then(({ volid }) => volid)
}

/** What Proxmox calls a file that it has just taken. */
export async function volidOf(
  pve: Pve,
  place: Place,
  content: FileContent,
  filename: string,
): Promise<string> {
  const file = (await listFiles(pve, place, content)).find((one) => filenameOf(one) === filename)
  if (file !== undefined) return file.volid
  throw new ImagebuildError({
    code: 'build_failed',
    what: `storage ${storageFor(place, content)} took ${filename}, but does not list it`,
    next: `look at the storage ${storageFor(place, content)} on ${place.node}`,
  })
}
