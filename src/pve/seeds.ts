import type { Emit } from '../core/events.ts'
import { Ownership } from '../core/scope.ts'
import type { Pve } from './client.ts'
import type { Place } from './place.ts'
import { putFile } from './put-file.ts'
import { filenameOf, listFiles, removeFile } from './volumes.ts'

/** Seeds on the storage for images: which guest reads one, and when anyone may remove it. */

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
  const owned = new Ownership({
    resource: `${filename} on storage ${place.storages.images}`,
    image: seed.image,
    next: 'run `imagebuild prune`',
    emit: seed.emit,
    remove: async (signal) => {
      const cleaning = pve.withSignal(signal)
      const file = (await listFiles(cleaning, place, 'iso')).find((one) => filenameOf(one) === filename)
      if (file !== undefined) await removeFile(cleaning, place, file.volid)
    },
  })
  try {
    const volid = await putFile(
      pve,
      place,
      { content: 'iso', filename, source: { bytes: seed.bytes } },
      { seconds: 120, signal: seed.signal },
    )
    return {
      volid,
      keep: () => owned.keep(),
      [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
    }
  } catch (error) {
    await owned[Symbol.asyncDispose]()
    throw error
  }
}
