import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '../core/make-folder.ts'
import type { CachedFile, SourceContext } from './context.ts'

/**
 * The cache. A file lies under the digest of its own bytes, `files/sha256-<hex>.<extension>`, and gets that
 * name by rename once it is complete and verified: what has the name is right, and two processes that bring
 * the same file bring the same bytes. A pointer, `pointers/<identity>.json`, says which file a recipe became.
 */

/** Where a file with this digest lies, whether or not it does. */
export function cachedPath(cacheDir: string, digest: string, extension: string): string {
  return join(cacheDir, 'files', `${digest.replace(':', '-')}.${extension}`)
}

/** The cached file with this digest, if there is one. */
export async function findCached(
  cacheDir: string,
  digest: string,
  extension: string,
): Promise<CachedFile | undefined> {
  const path = cachedPath(cacheDir, digest, extension)
  const found = await stat(path).catch(() => undefined)
  return found?.isFile() ? { path, digest, size: found.size } : undefined
}

/** Moves a finished file, on the same file system, to its place under its digest. */
export async function adoptFile(
  { cacheDir, signal }: SourceContext,
  path: string,
  extension: string,
  digest?: string,
): Promise<CachedFile> {
  const name = digest ?? `sha256:${await hashFile('sha256', path, signal)}`
  const target = cachedPath(cacheDir, name, extension)
  await makeFolder(join(cacheDir, 'files'))
  const { size } = await stat(path)
  await rename(path, target)
  return { path: target, digest: name, size }
}

/** Hex digest of a file, read as a stream. */
export async function hashFile(algorithm: string, path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash(algorithm)
  for await (const chunk of createReadStream(path, { signal, highWaterMark: 1024 * 1024 })) hash.update(chunk)
  return hash.digest('hex')
}

/** The file that `identity` became, if the cache still has it. */
export async function readPointer(cacheDir: string, identity: string): Promise<CachedFile | undefined> {
  try {
    const pointer = JSON.parse(await readFile(pointerPath(cacheDir, identity), 'utf8'))
    const { digest, extension } = pointer as { digest: string; extension: string }
    return await findCached(cacheDir, digest, extension)
  } catch (error) {
    // A pointer that was cut short by a crash is as good as none.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return undefined
    throw error
  }
}

export async function writePointer(cacheDir: string, identity: string, file: CachedFile): Promise<void> {
  const path = pointerPath(cacheDir, identity)
  const extension = file.path.slice(file.path.indexOf('.', file.path.lastIndexOf('/')) + 1)
  await makeFolder(join(cacheDir, 'pointers'))
  const temporary = `${path}.${randomUUID()}`
  await writeFile(temporary, JSON.stringify({ digest: file.digest, extension }))
  await rename(temporary, path)
}

function pointerPath(cacheDir: string, identity: string): string {
  return join(cacheDir, 'pointers', `${identity.replace(':', '-')}.json`)
}
