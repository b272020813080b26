import { z } from 'zod'
import { ImagebuildError } from '../core/errors.ts'
import { type Checksum, formatChecksum } from './checksum.ts'
import type { Architecture, SourceContext } from './context.ts'
import { getBytes } from './http.ts'

/**
 * The root file systems of images.linuxcontainers.org that have a name here, as the beginnings of its product
 * names. It is the `cloud` variant that is taken, which has cloud-init where `default` has not.
 */
const RELEASES = {
  'debian/12': 'debian:bookworm',
  'debian/13': 'debian:trixie',
  'ubuntu/22.04': 'ubuntu:jammy',
  'ubuntu/24.04': 'ubuntu:noble',
  'ubuntu/26.04': 'ubuntu:resolute',
} as const satisfies Record<string, string>

export type ContainerReleaseId = keyof typeof RELEASES

export const CONTAINER_BASE_URL = 'https://images.linuxcontainers.org'

/** One archive of a root file system on a server, to the byte. What `fetchFile` makes of it stays packed. */
export interface ResolvedRootfs {
  url: string
  checksum: Checksum
  /** the day and time of its build: `20251120_05:24` */
  version: string
  format: 'tar.xz'
  /** bytes */
  size: number
  /** what goes into a definition's digest */
  identity: string
}

export function containerReleaseIds(): ContainerReleaseId[] {
  return Object.keys(RELEASES) as ContainerReleaseId[]
}

export function isContainerReleaseId(id: string): id is ContainerReleaseId {
  return Object.hasOwn(RELEASES, id)
}

/** The index holds all distributions for all architectures: some megabytes. */
const MAX_INDEX_BYTES = 64 * 1024 * 1024
const ITEM = 'root.tar.xz'

const productsFile = z.object({ products: z.record(z.string(), z.unknown()) })
const product = z.object({
  versions: z.record(z.string(), z.object({ items: z.record(z.string(), z.unknown()) })),
})
const archive = z.object({
  path: z.string().min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  size: z.int().positive(),
})

/**
 * The newest build of a root file system: exact address and checksum. Nothing but the index (of the kind that
 * is called simplestreams) is downloaded.
 *
 * The index is not signed: what there is, is the HTTPS connection to images.linuxcontainers.org. With a mirror
 * over plain http (`baseUrls`), it is as trustworthy as the network.
 * @throws ImagebuildError `unreachable` if the server is not there or has no such product (only then is a
 *   fallback right); `build_failed` for an index that makes no sense
 */
export async function resolveContainerRelease(
  id: ContainerReleaseId,
  arch: Architecture,
  ctx: SourceContext,
): Promise<ResolvedRootfs> {
  const base = ctx.baseUrls?.linuxcontainers ?? CONTAINER_BASE_URL
  const indexUrl = `${base}/streams/v1/images.json`
  const bytes = await getBytes(indexUrl, ctx, MAX_INDEX_BYTES)
  const { products } = parsed(productsFile, () => JSON.parse(bytes.toString('utf8')), 'the index', indexUrl)
  const name = `${RELEASES[id]}:${arch}:cloud`
  if (!Object.hasOwn(products, name)) throw notBuilt(id, `${indexUrl} does not list ${name}`)
  const { versions } = parsed(product, () => products[name], name, indexUrl)
  // A build that has failed in part is listed with the items that there are.
  const version = Object.keys(versions)
    .filter((one) => versions[one]?.items[ITEM] !== undefined)
    .sort()
    .at(-1)
  if (version === undefined) throw notBuilt(id, `${indexUrl} lists ${name} without any ${ITEM}`)
  const { path, sha256, size } = parsed(
    archive,
    () => versions[version]?.items[ITEM],
    `${name}, version ${version}`,
    indexUrl,
  )
  const url = new URL(path, `${base}/`).href
  if (!url.startsWith(`${base}/`)) {
    throw nonsense(indexUrl, `${name}, version ${version}, leads away from it, to ${url}`)
  }
  const checksum: Checksum = { algorithm: 'sha256', value: sha256 }
  return { url, checksum, version, format: 'tar.xz', size, identity: formatChecksum(checksum) }
}

function parsed<Schema extends z.ZodType>(
  schema: Schema,
  read: () => unknown,
  part: string,
  indexUrl: string,
): z.output<Schema> {
  try {
    return schema.parse(read())
  } catch (cause) {
    const [issue] = cause instanceof z.ZodError ? cause.issues : []
    const why = issue ? `${issue.path.join('.')}: ${issue.message}` : (cause as Error).message
    throw nonsense(indexUrl, `${part}: ${why}`, cause)
  }
}

function nonsense(indexUrl: string, why: string, cause?: unknown): ImagebuildError {
  return new ImagebuildError({
    code: 'build_failed',
    what: `${indexUrl} is not an index of images as it should be`,
    why,
    next: 'check the mirror and any proxy on the way, or give a url and checksum instead of a release',
    cause,
  })
}

function notBuilt(id: string, why: string): ImagebuildError {
  return new ImagebuildError({
    code: 'unreachable',
    what: `no root file system of ${id} was found`,
    why,
    next: 'builds come and go there: try again later, add `fallback: bootstrap`, or give a url and checksum instead of a release',
  })
}
