import { readFile, realpath, statfs } from 'node:fs/promises'
import { formatBytes } from '../core/bytes.ts'
import { asImagebuildError, ImagebuildError } from '../core/errors.ts'

/**
 * Room in the file system of the cache: asked for before something is made there, and where it ran out all the same, said in
 * numbers.
 */

/**
 * @param needed bytes that will be written in `folder`, at least
 * @param purpose what for: `bootstrapping debian trixie`
 * @throws ImagebuildError `busy` where they do not fit
 */
export async function demandRoom(folder: string, needed: number, purpose: string): Promise<void> {
  const free = await freeBytes(folder)
  if (free < needed) throw await noRoom(folder, { purpose, needed, free })
}

/** What ended for want of room, as that; anything else as it is. `needed`: bytes, where they are known. */
export async function outOfRoom(
  thrown: unknown,
  folder: string,
  { purpose, needed }: { purpose: string; needed?: number },
): Promise<unknown> {
  if (!isFull(thrown)) return thrown
  const free = await freeBytes(folder)
  return await noRoom(folder, { purpose, free, ...(needed !== undefined && { needed }), cause: thrown })
}

/** The kernel's code, or its words in what a program printed. */
function isFull(thrown: unknown): boolean {
  if (['ENOSPC', 'EDQUOT'].includes((thrown as NodeJS.ErrnoException | undefined)?.code ?? '')) return true
  return asImagebuildError(thrown).output.some((line) =>
    /no space left on device|disk quota exceeded|enough free space/i.test(line),
  )
}

/** Bytes that this process may still write there. */
async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

async function noRoom(
  folder: string,
  facts: { purpose: string; free: number; needed?: number; cause?: unknown },
): Promise<ImagebuildError> {
  const { purpose, free, needed, cause } = facts
  const missing = needed === undefined || needed <= free ? undefined : formatBytes(needed - free)
  return new ImagebuildError({
    code: 'busy',
    what: `the file system ${await mountPoint(folder)} has no room for ${purpose}`,
    why:
      missing === undefined
        ? `it ran full; ${formatBytes(free)} are free now, in ${folder}`
        : `${formatBytes(needed ?? 0)} are needed in ${folder}, and ${formatBytes(free)} are free: ${missing} are missing`,
    next: `make room there (what lies in the cache may be deleted while nothing is built), or set IMAGEBUILD_CACHE_DIR to a folder of another file system`,
    ...(cause !== undefined && { cause }),
  })
}

/** Where the file system of a folder is mounted. */
async function mountPoint(folder: string): Promise<string> {
  const path = await realpath(folder)
  const mounts = await readFile('/proc/self/mounts', 'utf8').catch(() => '')
  const points = mounts
    .split('\n')
    // A space in a name is written as \040, and so on.
    .map((line) =>
      (line.split(' ')[1] ?? '').replace(/\\(\d{3})/g, (_, octal) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      ),
    )
    .filter((point) => point === '/' || `${path}/`.startsWith(`${point}/`))
  return points.reduce((longest, point) => (point.length >= longest.length ? point : longest), '/')
}
