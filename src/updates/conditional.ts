import { createHash, randomUUID } from 'node:crypto'
import { open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writeDurably } from '../core/durable-file.ts'
import { ImagebuildError } from '../core/errors.ts'
import { ifThere } from '../core/if-there.ts'
import { makeFolder } from '../core/make-folder.ts'
import { adoptFile, findCached, removeCached } from '../source/cache.ts'
import type { CachedFile, SourceContext } from '../source/context.ts'
import { openUrl } from '../source/http.ts'

/**
 * Files of which nobody knows a digest beforehand, and that change: the server is asked whether its file is another one than
 * the one in the cache. `conditional/<sha256 of the address>.json` says which file that is, and what the server called it.
 * Each file has a name of its own, whatever is in it; callers hold the turn of its address (`cacheTurn`).
 */

const MODE = 0o644
const SCHEMA = 1

interface Remembered {
  schema: typeof SCHEMA
  digest: string
  /** when the server last said that this is its file, ISO 8601 */
  checked: string
  etag?: string
  lastModified?: string
}

/**
 * @param extension ending of its name in the cache
 * @param maxBytes a larger one is refused while it comes
 * @throws ImagebuildError as `openUrl` does
 */
export async function fetchChanging(
  url: string,
  extension: string,
  maxBytes: number,
  ctx: SourceContext,
  now: Date,
): Promise<CachedFile> {
  const record = recordPath(ctx.cacheDir, url)
  const known = await remembered(record)
  const own = ownExtension(url, extension)
  const cached = known && (await findCached(ctx, known.digest, own))
  const checked = now.toISOString()
  await using response = await openUrl(url, cached ? conditions(known) : {}, ctx)
  if (response.status === 304 && cached) {
    await writeDurably(record, JSON.stringify({ ...known, checked }), MODE)
    return cached
  }
  const file = await keep(response.body, { url, extension: own, maxBytes }, ctx)
  const { etag, 'last-modified': lastModified } = response.headers
  const next: Remembered = {
    schema: SCHEMA,
    digest: file.digest,
    checked,
    ...(typeof etag === 'string' && { etag }),
    ...(typeof lastModified === 'string' && { lastModified }),
  }
  await makeFolder(join(ctx.cacheDir, 'conditional'))
  await writeDurably(record, JSON.stringify(next), MODE)
  // Nobody asks for the one before any more.
  if (cached && cached.digest !== file.digest) await removeCached(ctx, cached)
  return file
}

/** What the cache has of it, and when that was last what the server has: for where the server cannot be reached. */
export async function lastFetched(
  url: string,
  extension: string,
  ctx: SourceContext,
): Promise<{ file: CachedFile; checked: Date } | undefined> {
  const known = await remembered(recordPath(ctx.cacheDir, url))
  const file = known && (await findCached(ctx, known.digest, ownExtension(url, extension)))
  return known && file && { file, checked: new Date(known.checked) }
}

/**
 * For one that turned out to be none: whoever changed it on its way may have left the server's own name for it, by which the
 * server would say for ever that it has not changed.
 */
export async function forgetChanging(url: string, file: CachedFile, ctx: SourceContext): Promise<void> {
  await rm(recordPath(ctx.cacheDir, url), { force: true })
  await removeCached(ctx, file)
}

async function keep(
  body: AsyncIterable<Buffer>,
  { url, extension, maxBytes }: { url: string; extension: string; maxBytes: number },
  ctx: SourceContext,
): Promise<CachedFile> {
  await makeFolder(join(ctx.cacheDir, 'partial'))
  const path = join(ctx.cacheDir, 'partial', `changing.${process.pid}.${randomUUID()}`)
  try {
    await using target = await open(path, 'wx')
    let size = 0
    for await (const chunk of body) {
      size += chunk.length
      if (size > maxBytes) {
        throw new ImagebuildError({
          code: 'build_failed',
          what: `${url} is not what it should be`,
          why: `it is larger than ${maxBytes} bytes`,
        })
      }
      await target.writeFile(chunk)
    }
    return await adoptFile(ctx, path, extension)
  } finally {
    await rm(path, { force: true })
  }
}

function conditions({ etag, lastModified }: Remembered): Record<string, string> {
  return {
    ...(etag !== undefined && { 'if-none-match': etag }),
    ...(lastModified !== undefined && { 'if-modified-since': lastModified }),
  }
}

async function remembered(path: string): Promise<Remembered | undefined> {
  const text = await ifThere(readFile(path, 'utf8'))
  try {
    const found = JSON.parse(text ?? 'null') as Remembered | null
    return found?.schema === SCHEMA &&
      /^sha256:[0-9a-f]{64}$/.test(found.digest) &&
      !Number.isNaN(Date.parse(found.checked))
      ? found
      : undefined
  } catch {
    return undefined
  }
}

/** So that no other address names the same file, not even where it has the same bytes. */
export function ownExtension(url: string, extension: string): string {
  return `${createHash('sha256').update(url).digest('hex').slice(0, 16)}.${extension}`
}

function recordPath(cacheDir: string, url: string): string {
  return join(cacheDir, 'conditional', `${createHash('sha256').update(url).digest('hex')}.json`)
}
