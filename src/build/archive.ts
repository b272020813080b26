import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { rewriteArchive } from '../archive/rewrite.ts'
import { ImagebuildError } from '../core/errors.ts'
import { Ownership } from '../core/scope.ts'
import type { LxcSpec } from '../definition/spec.ts'
import { type Note, renderNote } from '../pve/marks.ts'
import { filenameOf, listFiles, removeFile } from '../pve/volumes.ts'
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
 * as `<image>-<version>.tar.zst`. No SSH to the hypervisor: Proxmox has no way to download an archive.
 */
export async function keepArchive(
  build: Build,
  image: LxcSpec,
  from: { machine: BuildGuest; session: Session; version: string },
): Promise<Artifact> {
  const { pve, place, owner, expires, emit, signal, cacheDir } = build
  const file = `${image.name}-${from.version}.tar.zst`
  const { guest } = from.machine
  // First what shall be: whoever removes the guest of a killed run removes this file too.
  const intent = noteOf(build, guest.vmid, { owner, expires, archive: { file } })
  await guest.configure({ description: renderNote(intent) })
  const owned = new Ownership({
    resource: `${file} on storage ${place.storages.archives}`,
    image: image.name,
    next: 'run `imagebuild prune`',
    emit,
    remove: (cleaning) => removeArchive(build, file, cleaning),
  })
  await mkdir(cacheDir, { recursive: true })
  const folder = await mkdtemp(join(cacheDir, 'archive-'))
  try {
    const path = join(folder, file)
    const { sha256 } = await readTree(build, from.session, path)
    const upid = await pve.upload(
      place.node,
      place.storages.archives,
      {
        content: 'vztmpl',
        filename: file,
        source: { path },
        checksum: { algorithm: 'sha256', value: sha256 },
      },
      {
        onProgress: (done, total) =>
          emit({ type: 'progress', image: image.name, step: 'archive', done, total, unit: 'bytes' }),
        signal,
      },
    )
    await pve.waitTask(upid, { seconds: 3600, onLog: taskLine(build, 'archive') })
    const volid = (await listFiles(pve, place, 'vztmpl')).find((one) => filenameOf(one) === file)?.volid
    if (volid === undefined) throw new Error(`Proxmox took ${file}, but does not list it`)
    return {
      note: { file, volid, sha256 },
      keep: () => owned.keep(),
      [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
    }
  } catch (error) {
    await owned[Symbol.asyncDispose]()
    throw error
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
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
