import { createHash } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { placeDurably, writeDurably } from '../core/durable-file.ts'
import { ImagebuildError } from '../core/errors.ts'
import { fileChunks } from '../core/file-chunks.ts'
import { ifThere } from '../core/if-there.ts'
import { makeFolder } from '../core/make-folder.ts'
import type { CachedFile, SourceContext } from './context.ts'
import { isProven, removeProof, stampOf, writeProof } from './proof.ts'

/**
 * The cache. A file lies under the digest of its own bytes, `files/sha256-<hex>.<extension>`, and gets that name by rename
 * once it is complete, verified and on the disk; two processes that bring the same file bring the same bytes. The name
 * alone proves nothing later on: before a file is used its bytes are hashed, unless a proof says that they were (`proof.ts`).
 * A pointer, `pointers/<identity>.json`, says which file a recipe became.
 */

/** Everybody may read a source, whatever the umask; it holds no secret. */
const FILE_MODE = 0o644

/**
 * Milliseconds, twice the longest tick of the kernel's clock (CONFIG_HZ=100). A change within the tick of the one before
 * it has the same ctime, so a tick must pass between the last change and what is written down of the file.
 */
const TICK_MILLISECONDS = 20

/** Of what a pointer is: files that earlier versions made were neither fsynced nor looked at for their modes. */
const POINTER_SCHEMA = 2

export interface Pointer {
  digest: string
  extension: string
  /** packages that are in the file beyond what its identity says */
  brought: readonly string[]
}

/** Where a file with this digest lies, whether or not it does. */
export function cachedPath(cacheDir: string, digest: string, extension: string): string {
  return join(cacheDir, 'files', `${digest.replace(':', '-')}.${extension}`)
}

/** The cached file with this digest, if there is one. A file of that name with other bytes is removed, and said. */
export async function findCached(
  ctx: SourceContext,
  digest: string,
  extension: string,
): Promise<CachedFile | undefined> {
  const { cacheDir, signal } = ctx
  const path = cachedPath(cacheDir, digest, extension)
  const seen = await stampOf(path)
  if (seen === undefined) return undefined
  const { stamp, size } = seen
  const file = { path, digest, size, stamp }
  if (await isProven(cacheDir, file)) return file
  const [algorithm = '', value = ''] = digest.split(':')
  ctx.onLine?.(`hashing ${path}`)
  await setTimeout(TICK_MILLISECONDS)
  const computed = await hashFile(algorithm, path, signal)
  const isSame = (await stampOf(path))?.stamp === stamp
  if (computed === value) {
    if (isSame) await writeProof(cacheDir, file)
    return file
  }
  ctx.onWarning?.(
    `${path} is not what its name says: its ${algorithm} is ${computed}. It is removed, and got again`,
  )
  await removeProof(cacheDir, path)
  // Another process may have brought the right one meanwhile.
  if (isSame) await rm(path, { force: true })
  return undefined
}

/**
 * Asked after a file was read, and before what came of it is believed: whether it is still what it was when it was checked.
 * Another process may have put the same bytes in its place, so where it looks different its bytes decide.
 * @throws ImagebuildError `build_failed` if it has changed, or is gone
 */
export async function confirmUnchanged(
  { path, stamp, digest }: CachedFile,
  signal: AbortSignal,
): Promise<void> {
  const seen = await stampOf(path)
  if (seen?.stamp === stamp) return
  const [algorithm = '', value = ''] = digest.split(':')
  if (seen !== undefined && (await hashFile(algorithm, path, signal)) === value) return
  throw new ImagebuildError({
    code: 'build_failed',
    what: `${path} was changed while it was read`,
    why: `its ${algorithm} is no longer ${value}`,
    next: 'run again when nobody else writes to it: its checksum is compared anew',
  })
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
  await placeDurably(path, target, FILE_MODE)
  const seen = await stampOf(target)
  if (seen === undefined) throw new Error(`${target} was removed by another process`)
  const file = { path: target, digest: name, size: seen.size, stamp: seen.stamp }
  await setTimeout(TICK_MILLISECONDS)
  await writeProof(cacheDir, file)
  return file
}

/** Hex digest of a file. */
export async function hashFile(algorithm: string, path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash(algorithm)
  for await (const chunk of fileChunks(path, signal)) hash.update(chunk)
  return hash.digest('hex')
}

/** The pointers whose identity begins like this one, by identity. */
export async function pointersFrom(cacheDir: string, identity: string): Promise<Map<string, Pointer>> {
  const start = basename(pointerPath(cacheDir, identity), '.json')
  const names = (await ifThere(readdir(join(cacheDir, 'pointers')))) ?? []
  const pointers = new Map<string, Pointer>()
  for (const name of names.filter((one) => one.startsWith(start) && one.endsWith('.json'))) {
    const whole = `${identity}${name.slice(start.length, -'.json'.length)}`
    const pointer = await pointerOf(cacheDir, whole)
    if (pointer !== undefined) pointers.set(whole, pointer)
  }
  return pointers
}

/** The file that `identity` became, if the cache still has it. */
export async function readPointer(ctx: SourceContext, identity: string): Promise<CachedFile | undefined> {
  const pointer = await pointerOf(ctx.cacheDir, identity)
  return pointer && (await findCached(ctx, pointer.digest, pointer.extension))
}

async function pointerOf(cacheDir: string, identity: string): Promise<Pointer | undefined> {
  const text = await ifThere(readFile(pointerPath(cacheDir, identity), 'utf8'))
  return text === undefined ? undefined : parsePointer(text)
}

/** @param brought packages that are in the file beyond what its identity says */
export async function writePointer(
  cacheDir: string,
  identity: string,
  file: CachedFile,
  brought: readonly string[] = [],
): Promise<void> {
  const name = basename(file.path)
  const extension = name.slice(name.indexOf('.') + 1)
  const pointer = { schema: POINTER_SCHEMA, digest: file.digest, extension, brought }
  await makeFolder(join(cacheDir, 'pointers'))
  await writeDurably(pointerPath(cacheDir, identity), JSON.stringify(pointer), FILE_MODE)
}

/** For a file that nobody else names. */
export async function removeCached(
  { cacheDir }: SourceContext,
  { path }: Pick<CachedFile, 'path'>,
): Promise<void> {
  await removeProof(cacheDir, path)
  await rm(path, { force: true })
}

/** The file stays: another pointer may name it. */
export async function removePointer(cacheDir: string, identity: string): Promise<void> {
  await rm(pointerPath(cacheDir, identity), { force: true })
}

/** Undefined for one of an earlier version, and for what is no pointer: then it is made again. */
function parsePointer(text: string): Pointer | undefined {
  const pointer = parsed(text)
  if (pointer?.schema !== POINTER_SCHEMA) return undefined
  const { digest, extension, brought } = pointer
  if (typeof digest !== 'string' || !/^sha(256|512):[0-9a-f]+$/.test(digest)) return undefined
  if (typeof extension !== 'string' || !/^\w+(\.\w+)*$/.test(extension)) return undefined
  if (!Array.isArray(brought) || brought.some((name) => typeof name !== 'string')) return undefined
  return { digest, extension, brought }
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    return (JSON.parse(text) as Record<string, unknown> | null) ?? undefined
  } catch {
    return undefined
  }
}

function pointerPath(cacheDir: string, identity: string): string {
  const name = `${identity.replace(':', '-')}.json`
  if (basename(name) !== name) throw new Error(`${identity} is no name for a file of the cache`)
  return join(cacheDir, 'pointers', name)
}
