import { ImagebuildError } from '../core/errors.ts'
import { poll } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { isAnswerLost } from './lost-answer.ts'
import type { Place } from './place.ts'
import type { Upload, UploadOptions } from './upload.ts'
import { type FileContent, filenameOf, listFiles, storageFor } from './volumes.ts'

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
      await uploadsEnded(pve, place, signal)
      const volid = await findFile(pve, place, file.content, file.filename)
      if (volid !== undefined) return volid
      if (uploads === UPLOADS) throw error
    }
  }
  return await volidOf(pve, place, file.content, file.filename)
}

/** Waits until the node moves no upload of these credentials' into its place any more. */
async function uploadsEnded(pve: Pve, { node }: Place, signal: AbortSignal): Promise<void> {
  const query = { typefilter: 'imgcopy', source: 'active' } as const
  const isOver = async () => {
    const rows = (await pve.api.nodes.$(node).tasks.$get(query)) as unknown[]
    return rows.length === 0 ? true : undefined
  }
  await poll(isOver, { signal, first: 200, max: 1000 })
}

async function findFile(
  pve: Pve,
  place: Place,
  content: FileContent,
  filename: string,
): Promise<string | undefined> {
  const files = await listFiles(pve, place, content)
  return files.find((file) => filenameOf(file) === filename)?.volid
}

/** What Proxmox calls a file that it has just taken. */
export async function volidOf(
  pve: Pve,
  place: Place,
  content: FileContent,
  filename: string,
): Promise<string> {
  const volid = await findFile(pve, place, content, filename)
  if (volid !== undefined) return volid
  throw new ImagebuildError({
    code: 'build_failed',
    what: `storage ${storageFor(place, content)} took ${filename}, but does not list it`,
    next: `look at the storage ${storageFor(place, content)} on ${place.node}`,
  })
}
