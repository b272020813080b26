import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { rewriteArchive } from '../archive/rewrite.ts'
import { ImagebuildError } from '../core/errors.ts'
import { Ownership } from '../core/scope.ts'
import type { LxcSpec } from '../definition/spec.ts'
import { type Note, renderNote } from '../pve/marks.ts'
import { putFile } from '../pve/put-file.ts'
import { filenameOf, listFiles, removeFile } from '../pve/volumes.ts'
import { withWorkFolder } from '../source/work-folder.ts'
import type { Session } from '../ssh/session.ts'
import { type Build, noteOf, outputOf, taskLine } from './context.ts'
import type { BuildGuest } from './guest.ts'

/** A container's tree as a file that others are created from. Removed with its scope, unless it is kept. */
export interface Artifact extends AsyncDisposable {
  note: NonNullable<Note['archive']>
  keep(): void
}

/** Seconds for reading the whole tree out of the guest. */
const TREE_SECONDS = 3600

/**
 * Numeric ids, since names mean other users elsewhere. What is mounted (/proc, /sys, /dev, /run) is left out, its mount
 * points are kept; lost+found is the file system's own. In the order of names: the same tree gives the same archive.
 */
const TAR = [
  'tar --create --file=- --directory=/ --one-file-system --numeric-owner --sort=name',
  '--acls --xattrs --xattrs-include=user.* --xattrs-include=security.capability',
  '--warning=no-file-ignored --warning=no-file-changed --warning=no-file-removed',
  '--anchored --exclude=./lost+found .',
].join(' ')

const TREE = { name: 'the tree of the container', blame: 'build_failed' } as const

/** tar's exit code where a file changed while it was read: a log, in a system that runs. */
const SOME_CHANGED = 1

/**
 * Streams the sealed tree out of the guest over the session that is still open, and puts it on the storage for archives
 * as `<image>-<version>[-<node>].tar.zst`. No SSH to the hypervisor: Proxmox has no way to download an archive.
 */
export async function keepArchive(
  build: Build,
  image: LxcSpec,
  from: { machine: BuildGuest; session: Session; version: string },
): Promise<Artifact> {
  const { pve, place, owner, expires, emit, signal, cacheDir } = build
  const node = build.beside === undefined ? '' : `-${build.beside}`
  const file = `${image.name}-${from.version}${node}.tar.zst`
  const { guest } = from.machine
  let upload: string | undefined
  return await withWorkFolder(cacheDir, 'archive', async (folder) => {
    const path = join(folder, file)
    const { sha256 } = await readTree(build, from.session, path)
    await refuseTaken(build, file)
    // First what shall be: whoever removes the guest of a killed run removes this file too.
    const intent = noteOf(build, guest.vmid, { owner, expires, guest: guest.token, archive: { file } })
    await guest.configure({ description: renderNote(intent) })
    const owned = new Ownership({
      resource: `${file} on storage ${place.storages.archives}`,
      image: image.name,
      next: 'run `imagebuild prune`',
      emit,
      remove: async (cleaning) => {
        // Proxmox goes on copying what it has got; only then is there something to remove.
        if (upload !== undefined)
          await pve
            .withSignal(cleaning)
            .waitTask(upload, { seconds: 60 })
            .catch(() => cleaning.throwIfAborted())
        await removeArchive(build, file, cleaning)
      },
    })
    try {
      const checksum = { algorithm: 'sha256', value: sha256 } as const
      const volid = await putFile(
        pve,
        place,
        { content: 'vztmpl', filename: file, source: { path }, checksum },
        {
          seconds: 3600,
          onProgress: (done, total) =>
            emit({ type: 'progress', image: image.name, step: 'archive', done, total, unit: 'bytes' }),
          onLog: taskLine(build, 'archive'),
          onTask: (upid) => {
            upload = upid
          },
          signal,
        },
      )
      return {
        note: { file, volid, sha256 },
        keep: () => owned.keep(),
        [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
      }
    } catch (error) {
      await owned[Symbol.asyncDispose]()
      throw error
    }
  })
}

/** Builds of one image in two namespaces know nothing of each other, but may share a storage; Proxmox would overwrite. */
async function refuseTaken({ pve, place, image }: Build, file: string): Promise<void> {
  if (!(await listFiles(pve, place, 'vztmpl')).some((stored) => filenameOf(stored) === file)) return
  throw new ImagebuildError({
    code: 'busy',
    what: `storage ${place.storages.archives} has got a file ${file} while ${image.name} was built`,
    why: 'somebody else builds an image of that name for the same storage',
    next: 'run again, or give one of the images another name',
  })
}

async function readTree(build: Build, session: Session, output: string): Promise<{ sha256: string }> {
  const { signal, image, emit } = build
  const tree = new PassThrough()
  let read = 0
  const reading = session
    .stream(
      TAR,
      async (chunk) => {
        read += chunk.length
        emit({ type: 'progress', image: image.name, step: 'archive', done: read, unit: 'bytes' })
        if (!tree.write(chunk)) await drained(tree)
      },
      { seconds: TREE_SECONDS, signal },
    )
    .then(({ code, stderr }) => {
      for (const line of stderr.split('\n').filter((text) => text !== ''))
        outputOf(build, 'archive', 'stderr')(line)
      if (code !== 0 && code !== SOME_CHANGED) {
        throw new ImagebuildError({
          code: 'build_failed',
          what: 'the tree of the container could not be read',
          why: `tar ended with exit code ${code}`,
          output: stderr.trim().split('\n'),
          next: 'run again with --on-error keep to look into the container',
        })
      }
      tree.end()
    })
    .catch((error: Error) => {
      tree.destroy(error)
      throw error
    })
  const [written] = await Promise.all([
    rewriteArchive({ input: tree, origin: TREE, output, signal }),
    reading,
  ])
  return written
}

/** Resolves when more can be written; rejects when nobody reads any longer. */
async function drained(stream: PassThrough): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const closed = () => reject(stream.errored ?? new Error('the archive is not written any further'))
  stream.once('drain', resolve)
  stream.once('close', closed)
  await promise.finally(() => {
    stream.off('drain', resolve)
    stream.off('close', closed)
  })
}

/** Also the file of another run that was interrupted. One that is gone is no error. */
export async function removeArchive(
  { pve, place }: Pick<Build, 'pve' | 'place'>,
  file: string,
  signal: AbortSignal,
): Promise<void> {
  const cleaning = pve.withSignal(signal)
  for (const stored of await listFiles(cleaning, place, 'vztmpl')) {
    if (filenameOf(stored) === file) await removeFile(cleaning, place, stored.volid)
  }
}
