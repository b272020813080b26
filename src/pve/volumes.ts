import type { Emit } from '../core/events.ts'
import { Ownership } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { PveError } from './errors.ts'
import type { Place } from './place.ts'

/** Files that imagebuild puts on a storage: source images, which stay for the next build, and seeds, which do not. */
export interface StoredFile {
  volid: string
  size: number
  ctime: number
}

/** What imagebuild keeps as files: seeds, disk images, containers' archives. */
export type FileContent = 'iso' | 'import' | 'vztmpl'

/** The storage for files of one content type. */
export function storageFor({ storages }: Place, content: FileContent): string {
  return content === 'vztmpl' ? storages.archives : storages.images
}

/** The files of one content type on the storage for it. */
export async function listFiles(pve: Pve, place: Place, content: FileContent): Promise<StoredFile[]> {
  return (await pve.api.nodes
    .$(place.node)
    .storage.$(storageFor(place, content))
    .content.$get({ content: content as 'iso' })) as unknown as StoredFile[]
}

/** A guest's volume on a storage. */
export interface StoredDisk {
  volid: string
  vmid?: number
  parent?: string | null
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
    return (await pve.api.nodes.$(node).storage.$(storage).content.$get(query)) as unknown as StoredDisk[]
  } catch (error) {
    if (error instanceof PveError && error.status === 403) return undefined
    throw error
  }
}

export function filenameOf(file: { volid: string }): string {
  return file.volid.slice(file.volid.lastIndexOf('/') + 1)
}

export async function removeFile(pve: Pve, place: Place, volid: string): Promise<void> {
  // With `delay` Proxmox waits for the deletion and answers null; a longer one comes back as a task.
  const upid = (await pve.api.nodes
    .$(place.node)
    .storage.$(volid.slice(0, volid.indexOf(':')))
    .content.$(volid)
    .$delete({ delay: 5 })) as string | null
  if (upid !== null) await pve.waitTask(upid, { seconds: 60 })
}

const SEED_NAME = /^ib-seed\.([^.]+)\.([^.]+)\.([^.]+)\.(\d+)(?:\.[^.]+)?\.iso$/

export interface SeedName {
  namespace: string
  image: string
  run: string
  /** Unix seconds after which it may be removed by anyone */
  expires: number
  /** where one run has seeds on several nodes, which may share the storage */
  node?: string
}

/** Volumes have no tags, so a seed's name says whose it is. None of its parts may hold a dot. */
export function seedName({ namespace, image, run, expires, node }: SeedName): string {
  const at = node === undefined ? '' : `.${node}`
  return `ib-seed.${namespace}.${image}.${run}.${Math.ceil(expires)}${at}.iso`
}

export function parseSeedName(filename: string): SeedName | undefined {
  const [, namespace, image, run, expires] = SEED_NAME.exec(filename) ?? []
  if (namespace === undefined || image === undefined || run === undefined) return undefined
  return { namespace, image, run, expires: Number(expires) }
}

export interface Seed extends AsyncDisposable {
  volid: string
  /** from here on it survives */
  keep(): void
}

/** Uploads a seed; it is removed with its scope. */
export async function uploadSeed(
  pve: Pve,
  place: Place,
  seed: SeedName & { bytes: Uint8Array; emit: Emit; signal: AbortSignal },
): Promise<Seed> {
  const filename = seedName(seed)
  const find = async (by: Pve) =>
    (await listFiles(by, place, 'iso')).find((file) => filenameOf(file) === filename)
  const owned = new Ownership({
    resource: `${filename} on storage ${place.storages.images}`,
    image: seed.image,
    next: 'run `imagebuild prune`',
    emit: seed.emit,
    remove: async (signal) => {
      const cleaning = pve.withSignal(signal)
      const file = await find(cleaning)
      if (file !== undefined) await removeFile(cleaning, place, file.volid)
    },
  })
  try {
    const upid = await pve.upload(
      place.node,
      place.storages.images,
      { content: 'iso', filename, source: { bytes: seed.bytes } },
      { signal: seed.signal },
    )
    await pve.waitTask(upid, { seconds: 120, signal: seed.signal })
    const file = await find(pve)
    if (file === undefined) throw new Error(`Proxmox took ${filename}, but does not list it`)
    return {
      volid: file.volid,
      keep: () => owned.keep(),
      [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
    }
  } catch (error) {
    await owned[Symbol.asyncDispose]()
    throw error
  }
}
