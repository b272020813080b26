import { join } from 'node:path'
import type { ArchiveFile } from '../archive/additions.ts'
import { inspectArchive } from '../archive/inspect.ts'
import { rewriteArchive } from '../archive/rewrite.ts'
import { ImagebuildError } from '../core/errors.ts'
import type { LxcSpec } from '../definition/spec.ts'
import { digestBytes, digestOf } from '../plan/identity.ts'
import { filenameOf, listFiles } from '../pve/volumes.ts'
import { adoptFile, confirmUnchanged, findCached, readPointer, writePointer } from '../source/cache.ts'
import type { CachedFile, SourceContext } from '../source/context.ts'
import { fetchFile } from '../source/fetch.ts'
import { withWorkFolder } from '../source/work-folder.ts'
import { additionsFor } from './archive-additions.ts'
import { type Build, taskLine } from './context.ts'
import type { SourceDecision } from './source.ts'
import { uploadSource } from './upload-source.ts'

/**
 * Has the archive that a container is created from on the storage, and gives its volume id, unless it is bootstrapped
 * here. Archives that come from elsewhere are looked through first; one that lacks what a build needs is rewritten on its way.
 */
export async function placeArchive(
  build: Build,
  image: LxcSpec,
  decision: SourceDecision,
  context: SourceContext,
): Promise<string> {
  const { from, record } = decision
  switch (from.kind) {
    case 'archive':
      return await placeParent(build, image, from)
    case 'appliance':
      return await placeAppliance(build, from.template)
    case 'file':
      return await prepareAndUpload(build, image, await fetchFile(from.file, context), context)
    case 'unavailable': {
      // Upstream is away, but what was last fetched from it may still be here.
      const format = image.source.kind === 'url' ? image.source.format : 'tar.xz'
      const file = await findCached(context, record.identity, format)
      if (file === undefined) throw from.why
      return await prepareAndUpload(build, image, file, context)
    }
    default:
      throw new TypeError(`a container cannot start from a ${from.kind}`)
  }
}

/** The archive that the parent's note names, if it is still there. */
async function placeParent(
  { pve, place }: Build,
  image: LxcSpec,
  { volid, template }: { volid: string; template: { name: string } },
): Promise<string> {
  if ((await listFiles(pve, place, 'vztmpl')).some((file) => file.volid === volid)) return volid
  throw new ImagebuildError({
    code: 'not_found',
    what: `${image.name} starts from the archive of ${template.name}, which is gone`,
    where: image.source.where,
    why: `storage ${place.storages.archives} on ${place.node} does not list ${volid}`,
    next:
      image.source.kind === 'image'
        ? `imagebuild run ${image.source.image} --force`
        : 'build its parent again',
  })
}

/** Downloaded and verified by the node, unless it has it. */
async function placeAppliance(build: Build, template: string): Promise<string> {
  const { pve, place } = build
  const find = async () =>
    (await listFiles(pve, place, 'vztmpl')).find((file) => filenameOf(file) === template)?.volid
  const there = await find()
  if (there !== undefined) return there
  const storage = place.storages.archives
  const upid = await pve.api.nodes.$(place.node).aplinfo.$post({ storage, template })
  await pve.waitTask(upid, { seconds: 7200, stopOnAbort: true, onLog: taskLine(build, 'source') })
  const volid = await find()
  if (volid !== undefined) return volid
  throw new ImagebuildError({
    code: 'build_failed',
    what: `${place.node} has downloaded ${template}, but storage ${storage} does not list it`,
    next: `look at the storage ${storage} on ${place.node}`,
  })
}

/** Archives of images.linuxcontainers.org have it; where there is a seed, cloud-init must run. */
const CLOUD_INIT_DISABLED = 'etc/cloud/cloud-init.disabled'

/** Looked through, rewritten where it must be, put on the storage. */
export async function prepareAndUpload(
  build: Build,
  image: LxcSpec,
  file: CachedFile,
  context: SourceContext,
): Promise<string> {
  const { signal } = build
  const contents = await inspectArchive({ input: file.path, origin: originOf(image), signal })
  const add = await additionsFor(image, contents)
  // Proxmox leaves `./dev/*` out, by that name alone, and up to version 8 takes packed archives only.
  const isFit = contents.packing !== 'none' && (contents.devices === 0 || contents.prefix === './')
  if (add.length === 0 && isFit)
    return await uploadSource(build, file, { content: 'vztmpl', extension: `tar.${contents.packing}` })
  const changed = await changedArchive(build, { file, add }, context)
  return await uploadSource(build, changed, { content: 'vztmpl', extension: 'tar.zst' })
}

/** An archive that is refused is the fault of whoever named it. */
function originOf({ name }: Pick<LxcSpec, 'name'>) {
  return { name: `the source archive of ${name}`, blame: 'definition_invalid' } as const
}

/** The archive with what is added; the same archive with the same additions is made once. */
async function changedArchive(
  { signal, emit, image }: Build,
  { file, add }: { file: CachedFile; add: readonly ArchiveFile[] },
  context: SourceContext,
): Promise<CachedFile> {
  const { cacheDir } = context
  const additions = add.map((one) =>
    one.type === 'file' ? { ...one, content: digestBytes(one.content) } : { ...one },
  )
  const identity = digestOf({ archive: file.digest, add: additions })
  const known = await readPointer(context, identity)
  if (known !== undefined) return known
  const names = add.map(({ path }) => path).join(', ')
  const message =
    add.length > 0 ? `adding to the archive: ${names}` : 'packing the archive as Proxmox takes it'
  emit({ type: 'info', image: image.name, message })
  return await withWorkFolder(cacheDir, 'archive', async (folder) => {
    const output = join(folder, 'changed.tar.zst')
    const origin = originOf(image)
    const drop = (path: string) => path === CLOUD_INIT_DISABLED && image.cloudInit.length > 0
    const { sha256 } = await rewriteArchive({ input: file.path, origin, output, add, drop, signal })
    await confirmUnchanged(file, signal)
    const changed = await adoptFile(context, output, 'tar.zst', `sha256:${sha256}`)
    await writePointer(cacheDir, identity, changed)
    return changed
  })
}
