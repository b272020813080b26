import { stat } from 'node:fs/promises'
import { ImagebuildError } from '../core/errors.ts'
import { fileChunks } from '../core/file-chunks.ts'
import { pauses } from '../core/pauses.ts'
import { RunningTimer } from '../core/running-timer.ts'
import type { FileContent } from './api.ts'
import { type Engine, encodePath } from './engine.ts'
import { PveError } from './errors.ts'
import { missingPrivileges, permissionError } from './permissions.ts'

export type UploadSource =
  | { path: string }
  | { bytes: Uint8Array }
  /** `size` in bytes must be exact: Proxmox takes no chunked bodies */
  | { stream: AsyncIterable<Uint8Array>; size: number }

export interface Upload {
  content: FileContent
  /** name on the storage, with the ending that Proxmox wants for its content (`import` takes no .img) */
  filename: string
  source: UploadSource
  /** checked by the node when all is there; a mismatch shows in the task */
  checksum?: { algorithm: 'md5' | 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512'; value: string }
}

export interface UploadOptions {
  /** bytes handed to the connection so far, and in all */
  onProgress?: (done: number, total: number) => void
  signal: AbortSignal
  /** seconds without progress until it is given up */
  stallSeconds?: number
}

/** Seconds in which at least one chunk must move, or, after the last one, the answer come. */
const STALL_SECONDS = 120

/** Seconds for an upload in all: a day. What ends one earlier is the lack of progress. */
const LONGEST_SECONDS = 86_400

/**
 * Streams one file to a storage; gives the UPID of the task that puts it in its place. Repeated only where Proxmox has
 * refused an expired ticket: that is before anything is done.
 */
export async function upload(
  engine: Engine,
  node: string,
  storage: string,
  file: Upload,
  options: UploadOptions,
): Promise<string> {
  engine.writes += 1
  const credentials = () => engine.session.headers(true, options.signal)
  const headers = await credentials()
  try {
    return await send(engine, node, storage, file, { ...options, headers })
  } catch (error) {
    const isRefused = error instanceof PveError && error.status === 401
    // A stream can be read only once.
    if (!isRefused || 'stream' in file.source || !engine.session.expire(headers)) throw error
    return await send(engine, node, storage, file, { ...options, headers: await credentials() })
  }
}

async function send(
  engine: Engine,
  node: string,
  storage: string,
  file: Upload,
  options: UploadOptions & { headers: Record<string, string> },
): Promise<string> {
  const size = await sizeOf(file.source)
  const stallSeconds = options.stallSeconds ?? STALL_SECONDS
  const stall = new AbortController()
  using timer = new RunningTimer(stallSeconds * 1000, () =>
    stall.abort(new Error(`nothing moved for ${stallSeconds} s`)),
  )
  const { count } = pauses
  let done = 0
  let sourceFailure: unknown
  const frame = await multipart(file)
  async function* body(): AsyncGenerator<Uint8Array> {
    yield frame.head
    try {
      for await (const chunk of open(file.source)) {
        yield chunk
        // Back here, the connection has taken the chunk.
        done += chunk.byteLength
        timer.refresh()
        options.onProgress?.(done, size)
      }
      if (done !== size) throw wrongSize(file.filename, done, size)
    } catch (error) {
      // A connection that breaks ends this without an error.
      sourceFailure = error
      throw error
    }
    yield frame.tail
  }
  const path = encodePath(`/nodes/${node}/storage/${storage}/upload`)
  try {
    const { data } = await engine.send({
      method: 'POST',
      path,
      contentType: frame.contentType,
      headers: {
        ...options.headers,
        'content-length': String(frame.head.byteLength + size + frame.tail.byteLength),
      },
      body: body(),
      signal: AbortSignal.any([options.signal, stall.signal]),
      seconds: LONGEST_SECONDS,
    })
    return String(data)
  } catch (error) {
    options.signal.throwIfAborted()
    if (sourceFailure) throw sourceFailure
    const stalled = stall.signal.aborted && error === stall.signal.reason
    if (!stalled && !(error instanceof PveError && error.delivery === 'unknown')) throw error
    // Proxmox does not wait for the rest while this process does not run, and forgets what is not complete.
    pauses.look()
    if (pauses.count !== count && done < size && !('stream' in file.source))
      return await send(engine, node, storage, file, options)
    throw await explained(engine, error as Error, { path, storage, done, size, signal: options.signal })
  }
}

/**
 * What stands before and after the file. Node's own FormData writes it, with an empty file, just as Proxmox needs it: parts
 * in the order of `append`, Content-Disposition first, boundary unquoted. The bytes of the file go past its web
 * streams, which copy every chunk: that costs a third more time and 40 MiB.
 */
async function multipart(file: Upload): Promise<{ head: Buffer; tail: Buffer; contentType: string }> {
  const form = new FormData()
  form.append('content', file.content)
  if (file.checksum) {
    form.append('checksum-algorithm', file.checksum.algorithm)
    form.append('checksum', file.checksum.value)
  }
  form.append('filename', new File([], file.filename, { type: 'application/octet-stream' }))
  const response = new Response(form)
  const bytes = Buffer.from(await response.arrayBuffer())
  // The empty file ends where the last delimiter begins.
  const end = bytes.lastIndexOf('\r\n--')
  return {
    head: bytes.subarray(0, end),
    tail: bytes.subarray(end),
    contentType: String(response.headers.get('content-type')),
  }
}

/**
 * Proxmox holds its 401 or 403 back for 3 s and reads nothing meanwhile, so a large upload that it refuses
 * ends in a closed connection instead. Asking for the permission tells the one from the other.
 */
async function explained(
  engine: Engine,
  lost: Error,
  at: { path: string; storage: string; done: number; size: number; signal: AbortSignal },
): Promise<unknown> {
  const need = {
    path: `/storage/${at.storage}`,
    privileges: ['Datastore.AllocateTemplate'],
    why: `upload to ${at.storage}`,
  }
  try {
    const missing = await missingPrivileges(engine, [need], at.signal)
    if (missing.length > 0) return permissionError(engine.session.user, [need], missing, lost)
  } catch (error) {
    at.signal.throwIfAborted()
    // That nobody is there any more, or lets us in, is the better explanation.
    if (error instanceof PveError && error.code !== 'build_failed') return error
  }
  return new PveError({
    method: 'POST',
    path: at.path,
    delivery: 'unknown',
    code: 'unreachable',
    what: `the upload to ${at.storage} broke off after ${at.done} of ${at.size} bytes`,
    message: lost instanceof PveError ? lost.pveMessage : lost.message,
    next: 'is there room in /var/tmp of the node? Proxmox gathers uploads there. See its journal: journalctl -u pveproxy',
    cause: lost,
  })
}

function wrongSize(filename: string, done: number, size: number): ImagebuildError {
  return new ImagebuildError({
    code: 'build_failed',
    what: `the upload of ${filename} cannot be completed`,
    why: `its source gave ${done} bytes, and ${size} were announced`,
    next: 'did the file change meanwhile? run again',
  })
}

/** Bytes that an upload of it has. */
export async function sizeOf(source: UploadSource): Promise<number> {
  if ('bytes' in source) return source.bytes.byteLength
  if ('size' in source) return source.size
  return (await stat(source.path)).size
}

async function* open(source: UploadSource): AsyncGenerator<Uint8Array> {
  if ('bytes' in source) yield source.bytes
  else if ('stream' in source) yield* source.stream
  else yield* fileChunks(source.path)
}
