import { asImagebuildError } from '../core/errors.ts'
import type { StoredFile } from '../pve/answers.ts'
import { PveError } from '../pve/errors.ts'
import { volidOf } from '../pve/put-file.ts'
import { filenameOf, listFiles } from '../pve/volumes.ts'
import { bootstrapDisk, bootstrapRootfs } from '../source/bootstrap.ts'
import { findCached } from '../source/cache.ts'
import { formatChecksum } from '../source/checksum.ts'
import type { SourceContext } from '../source/context.ts'
import { type FetchableFile, fetchFile } from '../source/fetch.ts'
import { placeArchive, prepareAndUpload } from './archive-placement.ts'
import { type Build, fileToken, taskLine } from './context.ts'
import type { SourceDecision } from './source.ts'
import { type SourceFile, sourceStem, uploadSource } from './upload-source.ts'

/**
 * Has a source on the storage, under a name made of its digest; it stays there for the next build. The node
 * downloads it itself where it may and can, which spares this machine's line; otherwise it is fetched and
 * verified here, and uploaded.
 */

/**
 * What a new guest starts from: a file to import, a template to clone, an archive to unpack.
 * `brought`: packages of the image's first layers that are in it already
 */
export type PlacedSource =
  | { kind: 'volume'; volid: string; brought?: readonly string[] }
  | { kind: 'template'; template: { node: string; vmid: number; name: string } }
  | { kind: 'archive'; volid: string; brought?: readonly string[] }

type DiskFile = FetchableFile & { format: 'qcow2' | 'raw' }

/**
 * Packages that an emulated machine installs in about the time of another bootstrap: more of them are brought along. Where
 * guests run at the machine's own speed, they install whatever a system lacks faster than another one is made.
 */
const EMULATED_MAY_INSTALL = 5

const DISK_IMAGE: SourceFile = { content: 'import', extension: 'qcow2' }

/** Seconds after which a file that nobody has written to is taken for complete, where its size is not known. */
const SETTLED_SECONDS = 60

/** @param extra packages that a system which is made here may bring along */
export async function placeSource(
  build: Build,
  decision: SourceDecision,
  context: SourceContext,
  extra: readonly string[] = [],
): Promise<PlacedSource> {
  const { from, record } = decision
  const { image, options } = build
  const bootstrap = { refresh: options.noCache || options.refresh !== undefined, extra }
  if (image.kind === 'lxc') {
    if (from.kind !== 'bootstrap')
      return { kind: 'archive', volid: await placeArchive(build, image, decision, context) }
    const { brought, ...rootfs } = await bootstrapRootfs(from.recipe, context, bootstrap)
    return { kind: 'archive', volid: await prepareAndUpload(build, image, rootfs, context), brought }
  }
  switch (from.kind) {
    case 'template':
      return from
    case 'bootstrap': {
      const isEmulated = extra.length > EMULATED_MAY_INSTALL && (await emulatesMachines(build))
      const { brought, ...disk } = await bootstrapDisk(from.recipe, context, {
        ...bootstrap,
        ...(isEmulated && { mayLack: EMULATED_MAY_INSTALL }),
      })
      return { kind: 'volume', volid: await uploadSource(build, disk, DISK_IMAGE), brought }
    }
    case 'file':
      return { kind: 'volume', volid: await placeFile(build, from.file as DiskFile, context) }
    case 'unavailable': {
      // Upstream is away, but what was last made from it may still be here.
      const cached = await findCached(context, record.identity, 'qcow2')
      if (cached !== undefined)
        return { kind: 'volume', volid: await uploadSource(build, cached, DISK_IMAGE) }
      const stored = await findStored(build, record.identity)
      if (stored !== undefined) return { kind: 'volume', volid: stored }
      throw from.why
    }
    default:
      throw new TypeError(`a virtual machine cannot start from an ${from.kind}`)
  }
}

/** Whoever may not read the node's status has a node as most are. */
async function emulatesMachines({ pve, place }: Build): Promise<boolean> {
  try {
    const { cpuinfo } = await pve.api.nodes.$(place.node).status.$get()
    return cpuinfo.hvm === ''
  } catch (error) {
    if (error instanceof PveError && error.delivery === 'answered') return false
    throw error
  }
}

async function placeFile(build: Build, file: DiskFile, context: SourceContext): Promise<string> {
  const digest = formatChecksum(file.checksum)
  const isRemote = /^https?:/.test(file.url)
  if (isRemote && file.packing === undefined && !(await findCached(context, digest, file.format))) {
    const volid = (await findStored(build, digest)) ?? (await downloadByNode(build, file))
    if (volid !== undefined) return volid
  }
  return await uploadSource(build, await fetchFile(file, context), {
    content: 'import',
    extension: file.format,
  })
}

/** A file on the storage that bears this digest in its name and is not being written at this moment. */
async function findStored({ pve, place }: Build, digest: string): Promise<string | undefined> {
  const settled = (file: StoredFile) => pve.clock.date().getTime() / 1000 - file.ctime > SETTLED_SECONDS
  const files = await listFiles(pve, place, 'import')
  return files.find((file) => filenameOf(file).startsWith(sourceStem(digest)) && settled(file))?.volid
}

/** The node fetches and verifies it. Undefined where it may not, or cannot: then we try. */
async function downloadByNode(build: Build, file: DiskFile): Promise<string | undefined> {
  const { pve, place, emit, image, signal } = build
  const privilege = {
    path: `/nodes/${place.node}`,
    privileges: ['Sys.AccessNetwork'],
    why: 'download by the node',
  }
  if ((await pve.missingPrivileges([privilege])).length > 0) return undefined
  const filename = `${sourceStem(formatChecksum(file.checksum))}-${fileToken(build)}.${file.format}`
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
  return await volidOf(pve, place, 'import', filename)
}
