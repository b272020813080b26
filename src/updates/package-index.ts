import { createHash } from 'node:crypto'
import { ImagebuildError } from '../core/errors.ts'
import { confirmUnchanged, readPointer, removeCached, writePointer } from '../source/cache.ts'
import type { CachedFile, SourceContext } from '../source/context.ts'
import { compareVersions } from '../source/debian-version.ts'
import { fetchFile } from '../source/fetch.ts'
import { unpackedChunks } from '../source/unpack.ts'
import { cacheTurn } from './cache-turn.ts'
import { ownExtension } from './conditional.ts'
import { inTime } from './in-time.ts'
import { type Offer, readStanzas } from './packages-file.ts'
import type { Release } from './release.ts'
import { readSignedRelease, type WhenSeen } from './signed-release.ts'
import { type Suite, suiteKey } from './suite.ts'

/** What a suite offers of the packages that were asked for. */
export interface PackageIndex {
  suite: Suite
  /** of its Release: to be written down, and given as `lastSeen` the next time */
  date: Date
  /** by name: the newest of each architecture */
  offers: ReadonlyMap<string, readonly Offer[]>
}

/** Which packages of a suite are looked for. */
export interface Wanted {
  /** names of packages; the index of a suite has a hundred thousand, an image some hundreds */
  names: ReadonlySet<string>
  /** of machines; packages for all of them are read in any case */
  architectures: readonly string[]
}

/** As apt prefers them. */
const PACKINGS = ['xz', 'gz'] as const

/**
 * Reads what a suite offers: its InRelease, and by the digests in it its lists of packages, which come from the cache where
 * they have not changed. A suite of which nothing is installed by itself (backports) offers nothing.
 * @throws ImagebuildError `unreachable` if something cannot be had, `build_failed` if it is not to be believed
 */
export async function readIndex(
  suite: Suite,
  wanted: Wanted,
  when: WhenSeen,
  ctx: SourceContext,
): Promise<PackageIndex> {
  // Where no list is given nobody may lead this machine into its own network.
  const guarded = { privateHosts: [], ...ctx }
  await using _turn = await cacheTurn(suiteKey(suite), ctx)
  const release = await readSignedRelease(suite, when, guarded)
  const offers = new Map<string, Offer[]>()
  for (const list of release.isManual ? [] : listsOf(suite, release, wanted.architectures)) {
    const { url, path, sha256, size, packing } = list
    const checksum = { algorithm: 'sha256', value: sha256 } as const
    const wantedFile = { url, checksum, size, format: ownExtension(path, `packages.${packing}`) }
    const file = await inTime(url, guarded, (limited) => fetchFile(wantedFile, limited))
    await replaceLast(path, file, guarded)
    await readList(file, packing, wanted.names, offers, guarded)
  }
  return { suite, date: release.date, offers }
}

/** Of each list the cache keeps what came last; earlier ones are asked for by nobody. */
async function replaceLast(path: string, file: CachedFile, ctx: SourceContext): Promise<void> {
  const identity = `list-${createHash('sha256').update(path).digest('hex')}`
  const last = await readPointer(ctx, identity)
  if (last?.path === file.path) return
  await writePointer(ctx.cacheDir, identity, file)
  if (last) await removeCached(ctx, last)
}

async function readList(
  file: CachedFile,
  packing: (typeof PACKINGS)[number],
  names: ReadonlySet<string>,
  offers: Map<string, Offer[]>,
  ctx: SourceContext,
): Promise<void> {
  for await (const { name, offer } of readStanzas(unpackedChunks(file, packing, ctx), names)) {
    const others = offers.get(name) ?? []
    const same = others.findIndex(({ architecture }) => architecture === offer.architecture)
    if (same === -1) offers.set(name, [...others, offer])
    else if (compareVersions(offer.version, (others[same] as Offer).version) > 0) others[same] = offer
  }
  await confirmUnchanged(file, ctx.signal)
}

interface List {
  url: string
  /** the same for all versions of the list: its address without a digest */
  path: string
  sha256: string
  /** bytes */
  size: number
  packing: (typeof PACKINGS)[number]
}

function listsOf(
  { url, suite, components }: Suite,
  release: Release,
  architectures: readonly string[],
): List[] {
  const folder = `${url}/dists/${suite}`
  const hasOwnAll = release.architectures.includes('all') && !release.hasAllInEach
  return components.flatMap((component) => {
    const lists = [...new Set(architectures)].map((architecture) => {
      const list = listOf(folder, `${component}/binary-${architecture}`, release)
      if (list !== undefined) return list
      throw new ImagebuildError({
        code: 'build_failed',
        what: `${folder} has no packages of ${component} for ${architecture}`,
        why: 'its InRelease names no such list',
        next: 'check the components and the architecture',
      })
    })
    const all = hasOwnAll ? listOf(folder, `${component}/binary-all`, release) : undefined
    return all === undefined ? lists : [...lists, all]
  })
}

function listOf(folder: string, place: string, { files, byHash }: Release): List | undefined {
  for (const packing of PACKINGS) {
    const path = `${place}/Packages.${packing}`
    const found = files.get(path)
    if (found === undefined) continue
    const { sha256, size } = found
    // By its digest it is the one that this InRelease means, also while the archive is being changed.
    return {
      path: `${folder}/${path}`,
      url: `${folder}/${byHash ? `${place}/by-hash/SHA256/${sha256}` : path}`,
      sha256,
      size,
      packing,
    }
  }
  return undefined
}
