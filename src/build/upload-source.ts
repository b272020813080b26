import type { FileContent } from '../pve/api.ts'
import { putFile } from '../pve/put-file.ts'
import { filenameOf, listFiles } from '../pve/volumes.ts'
import { confirmUnchanged } from '../source/cache.ts'
import type { CachedFile } from '../source/context.ts'
import { type Build, fileToken, taskLine } from './context.ts'

/** How a source lies on the storage: its content type for Proxmox, and how its name ends. */
export interface SourceFile {
  content: FileContent
  /** qcow2, raw, tar.zst, … */
  extension: string
}

/** Sources are found again by the digest in their names. */
export function sourceStem(digest: string): string {
  return `ib-source-${digest.slice(digest.indexOf(':') + 1).slice(0, 32)}`
}

/** Puts a source on the storage, unless it is there already; gives its volume id. */
export async function uploadSource(build: Build, file: CachedFile, as: SourceFile): Promise<string> {
  const { pve, place, signal, image, emit } = build
  const { content, extension } = as
  const stem = sourceStem(file.digest)
  const stored = await listFiles(pve, place, content)
  const complete = stored.find((entry) => filenameOf(entry).startsWith(stem) && entry.size === file.size)
  if (complete !== undefined) return complete.volid
  // A name of our own: another run may be copying under the plain one at this moment.
  const filename = `${stem}-${fileToken(build)}.${extension}`
  const [algorithm = '', value = ''] = file.digest.split(':')
  try {
    return await putFile(
      pve,
      place,
      {
        content,
        filename,
        source: { path: file.path },
        // The node compares what has come with what was checked here.
        checksum: { algorithm: algorithm as 'sha256', value },
      },
      {
        seconds: 3600,
        onProgress: (done, total) =>
          emit({ type: 'progress', image: image.name, step: 'source', done, total, unit: 'bytes' }),
        onLog: taskLine(build, 'source'),
        signal,
      },
    )
  } catch (error) {
    // Where the node has refused other bytes, this says how they came to be.
    if (!signal.aborted) await confirmUnchanged(file, signal)
    throw error
  }
}
