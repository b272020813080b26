import { ImagebuildError } from '../core/errors.ts'
import { type Checksum, findInList, formatChecksum } from './checksum.ts'
import { type ContainerReleaseId, containerReleaseIds } from './container-catalog.ts'
import type { Architecture, SourceContext } from './context.ts'
import { getBytes, StatusError } from './http.ts'
import { UBUNTU_KEYRING, verifySignature } from './openpgp.ts'

interface Release {
  distribution: 'debian' | 'ubuntu'
  /** below the base URL */
  folder: string
  /** name of the image up to the architecture */
  file: string
}

/**
 * The cloud images that have a name here. Each is resolved to one dated release, so that "the latest" of
 * today and of next week are different sources with different digests.
 */
const RELEASES = {
  'debian/12': debian('12', 'bookworm'),
  'debian/13': debian('13', 'trixie'),
  'ubuntu/22.04': ubuntu('22.04', 'jammy'),
  'ubuntu/24.04': ubuntu('24.04', 'noble'),
  'ubuntu/26.04': ubuntu('26.04', 'resolute'),
  'ubuntu/22.04-minimal': ubuntuMinimal('22.04', 'jammy'),
  'ubuntu/24.04-minimal': ubuntuMinimal('24.04', 'noble'),
  'ubuntu/26.04-minimal': ubuntuMinimal('26.04', 'resolute'),
} as const

/**
 * The `generic` images, not `genericcloud`: the latter's kernel has no AHCI, and on machine type q35 Proxmox puts an
 * IDE cloud-init drive on AHCI. They do not contain the QEMU guest agent, and Ubuntu's do not either: a definition
 * installs it as a package.
 */
function debian(version: string, suite: string): Release {
  return { distribution: 'debian', folder: suite, file: `debian-${version}-generic` }
}

function ubuntu(version: string, suite: string): Release {
  return { distribution: 'ubuntu', folder: `releases/${suite}`, file: `ubuntu-${version}-server-cloudimg` }
}

function ubuntuMinimal(version: string, suite: string): Release {
  const folder = `minimal/releases/${suite}`
  return { distribution: 'ubuntu', folder, file: `ubuntu-${version}-minimal-cloudimg` }
}

export type CatalogId = keyof typeof RELEASES

export const BASE_URLS = {
  debian: 'https://cloud.debian.org/images/cloud',
  ubuntu: 'https://cloud-images.ubuntu.com',
} as const

/** How many dated folders are looked into: the newest may still be on its way to the mirrors. */
const FOLDERS_TRIED = 3

/** One file on a server, to the byte. */
export interface ResolvedFile {
  url: string
  checksum: Checksum
  /** of the release: `20251112-2294`, `20250805` */
  version: string
  format: 'qcow2'
  /** what goes into a definition's digest */
  identity: string
}

/** All names for each kind of image, for completion and "did you mean". */
export function catalogIds(): { vm: CatalogId[]; lxc: ContainerReleaseId[] } {
  return { vm: Object.keys(RELEASES) as CatalogId[], lxc: containerReleaseIds() }
}

export function isCatalogId(id: string): id is CatalogId {
  return Object.hasOwn(RELEASES, id)
}

/**
 * The newest dated release of a cloud image: exact address and checksum. Nothing but lists is downloaded.
 *
 * Ubuntu signs its SHA256SUMS, and the signature is checked with gpgv against a pinned key. Debian does not
 * sign the SHA512SUMS of its cloud images: what there is, is the HTTPS connection to cloud.debian.org. With a
 * mirror over plain http (`baseUrls`), Debian's list is as trustworthy as the network.
 * @throws ImagebuildError `unreachable` if a server or a file is not there (only then is a fallback right);
 *   `build_failed` for a bad signature, an unsigned list, or a list without the image
 */
export async function resolveRelease(
  id: CatalogId,
  arch: Architecture,
  ctx: SourceContext,
): Promise<ResolvedFile> {
  const release = RELEASES[id]
  const base = ctx.baseUrls?.[release.distribution] ?? BASE_URLS[release.distribution]
  const folderUrl = `${base}/${release.folder}/`
  const versions = datedFolders((await getBytes(folderUrl, ctx)).toString('utf8'), release.distribution)
  if (versions.length === 0) {
    throw new ImagebuildError({
      code: 'unreachable',
      what: `no release of ${id} was found`,
      why: `${folderUrl} lists no dated folder`,
      next: 'check the mirror, or give a url and checksum instead of a release',
    })
  }
  let missing: unknown
  for (const version of versions.slice(0, FOLDERS_TRIED)) {
    const listUrl =
      release.distribution === 'debian'
        ? `${folderUrl}${version}/SHA512SUMS`
        : `${folderUrl}release-${version}/SHA256SUMS`
    let list: Buffer
    try {
      list = await getBytes(listUrl, ctx)
    } catch (error) {
      if (!isNotFound(error)) throw error
      missing ??= error
      continue
    }
    return release.distribution === 'debian'
      ? debianFile(release, version, arch, listUrl, list.toString('utf8'))
      : ubuntuFile(release, version, arch, listUrl, list, ctx)
  }
  throw missing
}

function debianFile(
  release: Release,
  version: string,
  arch: Architecture,
  listUrl: string,
  list: string,
): ResolvedFile {
  const name = `${release.file}-${arch}-${version}.qcow2`
  return resolved(listUrl, name, version, findInList(list, name, 'sha512', listUrl))
}

async function ubuntuFile(
  release: Release,
  version: string,
  arch: Architecture,
  listUrl: string,
  list: Buffer,
  ctx: SourceContext,
): Promise<ResolvedFile> {
  let signature: Buffer
  try {
    signature = await getBytes(`${listUrl}.gpg`, ctx)
  } catch (cause) {
    if (!isNotFound(cause)) throw cause
    throw new ImagebuildError({
      code: 'build_failed',
      what: `${listUrl} is not signed`,
      why: `there is no ${listUrl}.gpg`,
      next: 'use a mirror that carries the signatures too',
      cause,
    })
  }
  const keyring = ctx.ubuntuKeyring ?? UBUNTU_KEYRING
  await verifySignature({ data: list, signature, keyring, name: listUrl }, ctx.signal)
  const name = `${release.file}-${arch}.img`
  return resolved(listUrl, name, version, findInList(list.toString('utf8'), name, 'sha256', listUrl))
}

function resolved(listUrl: string, name: string, version: string, checksum: Checksum): ResolvedFile {
  const url = new URL(name, listUrl).href
  return { url, checksum, version, format: 'qcow2', identity: formatChecksum(checksum) }
}

/** The dates of the folders in a directory listing (of Apache, nginx, or any other with links), newest first. */
export function datedFolders(html: string, distribution: 'debian' | 'ubuntu'): string[] {
  const link =
    distribution === 'debian'
      ? /href="(?:\.\/)?(\d{8}-\d+)\/"/g
      : /href="(?:\.\/)?release-(\d{8}(?:\.\d+)?)\/"/g
  const found = [...html.matchAll(link)].map((match) => match[1] as string)
  return [...new Set(found)].sort((a, b) => compareNumbers(b, a))
}

/** `20250805.2` before `20250805.10`. */
function compareNumbers(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split(/[-.]/).map(Number)) as [number[], number[]]
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? -1) - (right[i] ?? -1)
    if (difference !== 0) return difference
  }
  return 0
}

function isNotFound(error: unknown): boolean {
  return error instanceof StatusError && error.status === 404
}
