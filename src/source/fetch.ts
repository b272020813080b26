import { createHash, type Hash } from 'node:crypto'
import { open, stat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ImagebuildError } from '../core/errors.ts'
import { fileChunks } from '../core/file-chunks.ts'
import { freeMemory } from '../core/spent-memory.ts'
import { adoptFile, findCached, hashFile } from './cache.ts'
import { type Checksum, formatChecksum } from './checksum.ts'
import type { CachedFile, SourceContext } from './context.ts'
import { demandRoom, outOfRoom } from './disk-room.ts'
import { openUrl, TransferError } from './http.ts'
import { PartialDownload } from './partial.ts'
import { stampOf } from './proof.ts'
import { type Packing, unpackFile } from './unpack.ts'

/** Tries in a row that bring not one byte, before a download is given up. */
const FRUITLESS_TRIES = 3

/** A file to get: where it is, and what it must be. */
export interface FetchableFile {
  /** https, http, file, or an absolute path */
  url: string
  /** over the bytes at `url`, packed as they are */
  checksum: Checksum
  /** bytes of the file at `url`, where they are known: what is larger is refused while it comes */
  size?: number
  /** ending of the name in the cache; qcow2 unless given. `tar.xz` and the like, without `packing`: stays packed */
  format?: string
  /** unpacked after it was verified */
  packing?: Packing
}

/**
 * Brings a file into the cache, verified while it streams; what the cache has is given back without asking
 * anybody. An interrupted download goes on where it was. A local file is verified and used where it lies.
 * @throws ImagebuildError `unreachable` if it cannot be got, `build_failed` if it is not what the checksum says
 */
export async function fetchFile(file: FetchableFile, ctx: SourceContext): Promise<CachedFile> {
  const format = file.format ?? 'qcow2'
  const packed = await verifiedFile(file, file.packing ? `${format}.${file.packing}` : format, ctx)
  return file.packing ? unpackFile(packed, file.packing, format, ctx) : packed
}

async function verifiedFile(file: FetchableFile, extension: string, ctx: SourceContext): Promise<CachedFile> {
  const local = localPath(file.url)
  if (local !== undefined) return verifyLocal(local, file.checksum, ctx)
  const digest = formatChecksum(file.checksum)
  const known = await findCached(ctx, digest, extension)
  if (known) return known

  const partial = await PartialDownload.take(ctx.cacheDir, digest)
  try {
    let { computed, resumed } = await downloadAll(file, partial, ctx)
    if (computed !== file.checksum.value && resumed) {
      // Bytes of an earlier try may be of another version of the file.
      await partial.discard()
      ;({ computed, resumed } = await downloadAll(file, partial, ctx))
    }
    if (computed !== file.checksum.value) {
      await partial.discard()
      throw mismatch(file.url, file.checksum, computed)
    }
    const cached = await adoptFile(ctx, partial.path, extension, digest)
    await partial.discard()
    return cached
  } catch (error) {
    await partial.giveBack()
    throw await outOfRoom(error, ctx.cacheDir, { purpose: file.url })
  }
}

function localPath(url: string): string | undefined {
  if (url.startsWith('file:')) return fileURLToPath(url)
  return isAbsolute(url) ? url : undefined
}

async function verifyLocal(path: string, checksum: Checksum, ctx: SourceContext): Promise<CachedFile> {
  try {
    const seen = await stampOf(path)
    if (seen === undefined) throw new Error('there is no such file')
    const computed = await hashFile(checksum.algorithm, path, ctx.signal)
    if (computed !== checksum.value) throw mismatch(path, checksum, computed)
    return { path, digest: formatChecksum(checksum), size: seen.size, stamp: seen.stamp }
  } catch (cause) {
    ctx.signal.throwIfAborted()
    if (cause instanceof ImagebuildError) throw cause
    throw new ImagebuildError({
      code: 'unreachable',
      what: `${path} cannot be read`,
      why: (cause as Error).message,
      cause,
    })
  }
}

/** Appends to the partial download until it is complete, however often the connection breaks. */
async function downloadAll(
  file: FetchableFile,
  partial: PartialDownload,
  ctx: SourceContext,
): Promise<{ computed: string; resumed: boolean }> {
  const state: DownloadState = { hash: createHash(file.checksum.algorithm), done: 0, resumed: false }
  await hashExisting(partial.path, state)
  state.resumed = state.done > 0
  // Complete already: somebody was killed just before the last step.
  if (state.resumed && state.hash.copy().digest('hex') === file.checksum.value) {
    return { computed: file.checksum.value, resumed: true }
  }
  for (let fruitless = 0; ; ) {
    const before = state.done
    try {
      await downloadOnce(file, partial, state, ctx)
      return { computed: state.hash.digest('hex'), resumed: state.resumed }
    } catch (error) {
      // What is too large already does not go on from there.
      if (file.size !== undefined && state.done > file.size) await partial.discard()
      if (!(error instanceof TransferError)) throw error
      fruitless = state.done > before ? 0 : fruitless + 1
      if (fruitless >= FRUITLESS_TRIES) throw error
      ctx.onLine?.(`${error.message}; trying again from byte ${state.done}`)
    }
  }
}

interface DownloadState {
  /** over the first `done` bytes */
  hash: Hash
  done: number
  /** whether bytes of an earlier run are in it */
  resumed: boolean
}

async function hashExisting(path: string, state: DownloadState): Promise<void> {
  if (!(await stat(path).catch(() => undefined))) return
  for await (const chunk of fileChunks(path)) {
    state.hash.update(chunk)
    state.done += chunk.length
  }
}

async function downloadOnce(
  file: FetchableFile,
  partial: PartialDownload,
  state: DownloadState,
  ctx: SourceContext,
): Promise<void> {
  const validator = state.done > 0 ? await partial.validator() : undefined
  const range = validator === undefined ? {} : { range: `bytes=${state.done}-`, 'if-range': validator }
  await using response = await openUrl(file.url, range as Record<string, string>, ctx)
  const length = Number(response.headers['content-length'] ?? Number.NaN)
  const continues = response.status === 206 && rangeStart(response.headers['content-range']) === state.done
  if (!continues) {
    state.hash = createHash(file.checksum.algorithm)
    state.done = 0
    state.resumed = false
    if (response.status !== 200) {
      // The server has less than we have, or sends another part than asked for: begin anew.
      await partial.discard()
      throw new TransferError({
        code: 'unreachable',
        what: `${file.url} cannot be resumed`,
        why: `the server answers ${response.status} to a request for its last part`,
      })
    }
  }
  await partial.setValidator(strongValidator(response.headers))
  const total = Number.isNaN(length) ? undefined : state.done + length
  if (total !== undefined && total > (file.size ?? total)) throw tooLarge(file.url, file.size)
  if (total !== undefined) await demandRoom(ctx.cacheDir, total - state.done, file.url)
  await using target = await open(partial.path, continues ? 'a' : 'w')
  for await (const chunk of response.body) {
    await target.writeFile(chunk)
    state.hash.update(chunk)
    state.done += chunk.length
    if (state.done > (file.size ?? state.done)) throw tooLarge(file.url, file.size)
    freeMemory(chunk)
    ctx.onProgress?.(state.done, total)
  }
  if (total !== undefined && state.done !== total) {
    throw new TransferError({
      code: 'unreachable',
      what: `${file.url} was cut short`,
      why: `${state.done} of ${total} bytes came`,
    })
  }
}

function rangeStart(contentRange: string | string[] | undefined): number | undefined {
  const start = /^bytes (\d+)-/.exec(String(contentRange ?? ''))?.[1]
  return start === undefined ? undefined : Number(start)
}

/** RFC 9110, 13.1.5: If-Range takes a strong ETag or a date. */
function strongValidator(headers: Record<string, string | string[] | undefined>): string | undefined {
  const etag = headers.etag
  if (typeof etag === 'string' && etag.startsWith('"')) return etag
  const date = headers['last-modified']
  return typeof date === 'string' ? date : undefined
}

function tooLarge(url: string, size: number | undefined): ImagebuildError {
  return new ImagebuildError({
    code: 'build_failed',
    what: `${url} is not the file that was asked for`,
    why: `it is larger than ${size} bytes`,
    next: 'the server or the network has changed the file: use another mirror, or try again later',
  })
}

function mismatch(url: string, wanted: Checksum, computed: string): ImagebuildError {
  return new ImagebuildError({
    code: 'build_failed',
    what: `${url} is not the file that was asked for`,
    why: `its ${wanted.algorithm} is ${computed}, and it must be ${wanted.value}`,
    next: 'check the checksum in the definition; if it is right, the server or the network has changed the file',
  })
}
