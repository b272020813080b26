import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import { filenameOf, listFiles, type StoredFile } from '../pve/volumes.ts'
import { bootstrapDisk } from '../source/bootstrap.ts'
import { findCached } from '../source/cache.ts'
import { formatChecksum } from '../source/checksum.ts'
import type { CachedFile, SourceContext } from '../source/context.ts'
import { type FetchableFile, fetchFile } from '../source/fetch.ts'
import { type Build, taskLine } from './context.ts'
import type { SourceDecision } from './source.ts'

/**
 * Has a source on the storage, under a name made of its digest; it stays there for the next build. The node
 * downloads it itself where it may and can, which spares this machine's line; otherwise it is fetched and
 * verified here, and uploaded.
 */

/** What a new guest starts from: a file to import, or a template to clone. */
export type PlacedSource =
  | { kind: 'volume'; volid: string }
  | { kind: 'template'; template: { node: string; vmid: number; name: string } }

type Format = 'qcow2' | 'raw'

/** Seconds after which a file that nobody has written to is taken for complete, where its size is not known. */
const SETTLED_SECONDS = 60

export async function placeSource(
  build: Build,
  decision: SourceDecision,
  context: SourceContext,
): Promise<PlacedSource> {
  const { from, record } = decision
  switch (from.kind) {
    case 'template':
      return from
    case 'bootstrap': {
      const disk = await bootstrapDisk(from.recipe, context, { refresh: build.options.noCache })
      return { kind: 'volume', volid: await upload(build, disk, 'qcow2') }
    }
    case 'file':
      return { kind: 'volume', volid: await placeFile(build, from.file, context) }
    case 'unavailable': {
      // Upstream is away, but what was last made from it may still be here.
      const cached = await findCached(context.cacheDir, record.identity, 'qcow2')
      if (cached !== undefined) return { kind: 'volume', volid: await upload(build, cached, 'qcow2') }
      const stored = await findStored(build, record.identity)
      if (stored !== undefined) return { kind: 'volume', volid: stored }
      throw from.why
    }
  }
}

async function placeFile(
  build: Build,
  file: FetchableFile & { format: Format },
  context: SourceContext,
): Promise<string> {
  const digest = formatChecksum(file.checksum)
  const isRemote = /^https?:/.test(file.url)
  if (isRemote && file.packing === undefined && !(await findCached(context.cacheDir, digest, file.format))) {
    const volid = (await findStored(build, digest)) ?? (await downloadByNode(build, file))
    if (volid !== undefined) return volid
  }
  return await upload(build, await fetchFile(file, context), file.format)
}

function stemOf(digest: string): string {
  return `ib-source-${digest.slice(digest.indexOf(':') + 1).slice(0, 32)}`
}

/** A file on the storage that bears this digest in its name and is not being written at this moment. */
async function findStored({ pve, place }: Build, digest: string): Promise<string | undefined> {
  const settled = (file: StoredFile) => Date.now() / 1000 - file.ctime > SETTLED_SECONDS
  const files = await listFiles(pve, place, 'import')
  return files.find((file) => filenameOf(file).startsWith(stemOf(digest)) && settled(file))?.volid
}

/** The node fetches and verifies it. Undefined where it may not, or cannot: then we try. */
async function downloadByNode(
  build: Build,
  file: FetchableFile & { format: Format },
): Promise<string | undefined> {
  const { pve, place, emit, image, signal, run } = build
  const privilege = {
    path: `/nodes/${place.node}`,
    privileges: ['Sys.AccessNetwork'],
    why: 'download by the node',
  }
  if ((await pve.missingPrivileges([privilege])).length > 0) return undefined
  const filename = `${stemOf(formatChecksum(file.checksum))}-${run}.${file.format}`
  try {
    const upid = await pve.api.nodes.$(place.node).storage.$(place.storages.images)['download-url'].$post({
      content: 'import',
      filename,
      url: file.url,
      checksum: file.checksum.value,
      'checksum-algorithm': file.checksum.algorithm,
    })
    await pve.waitTask(upid, { seconds: 7200, stopOnAbort: true, onLog: taskLine(build, 'source') })
  } catch (error) {
    signal.throwIfAborted()
    emit({
      type: 'info',
      image: image.name,
      message: `${place.node} could not download it (${asImagebuildError(error).why ?? (error as Error).message}); fetching it here`,
    })
    return undefined
  }
  return await volidOf(build, filename)
}

async function upload(build: Build, file: CachedFile, format: Format): Promise<string> {
  const { pve, place, run, signal, image, emit } = build
  const stem = stemOf(file.digest)
  const stored = await listFiles(pve, place, 'import')
  const complete = stored.find((entry) => filenameOf(entry).startsWith(stem) && entry.size === file.size)
  if (complete !== undefined) return complete.volid
  // A name of our own: another run may be copying under the plain one at this moment.
  const filename = `${stem}-${run}.${format}`
  const [algorithm = '', value = ''] = file.digest.split(':')
  const upid = await pve.upload(
    place.node,
    place.storages.images,
    {
      content: 'import',
      filename,
      source: { path: file.path },
      checksum: { algorithm: algorithm as 'sha256', value },
    },
    {
      onProgress: (done, total) =>
        emit({ type: 'progress', image: image.name, step: 'source', done, total, unit: 'bytes' }),
      signal,
    },
  )
  await pve.waitTask(upid, { seconds: 3600, onLog: taskLine(build, 'source') })
  return await volidOf(build, filename)
}

async function volidOf({ pve, place }: Build, filename: string): Promise<string> {
  const found = (await listFiles(pve, place, 'import')).find((entry) => filenameOf(entry) === filename)
  if (found !== undefined) return found.volid
  throw new ImagebuildError({
    code: 'build_failed',
    what: `storage ${place.storages.images} took ${filename}, but does not list it`,
    next: `look at the storage ${place.storages.images} on ${place.node}`,
  })
}
