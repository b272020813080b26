import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { FormData } from 'undici'
import { ImagebuildError } from '../core/errors.ts'
import type { UploadContent } from './api.ts'
import { type Engine, encodePath } from './engine.ts'
import { PveError } from './errors.ts'
import { missingPrivileges, permissionError } from './permissions.ts'

export type UploadSource =
  | { path: string }
  | { bytes: Uint8Array }
  /** `size` in bytes must be exact: Proxmox takes no chunked bodies */
  | { stream: AsyncIterable<Uint8Array>; size: number }

export interface Upload {
  content: UploadContent
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

/** Bytes read from a file at once: few enough for a flat memory, many enough for a fast line. */
const CHUNK_BYTES = 256 * 1024

/**
 * Streams one file to a storage; gives the UPID of the task that puts it in its place. Never repeated.
 * undici's FormData writes the parts as Proxmox needs them: in the order of `append`, Content-Disposition
 * first, boundary unquoted, and the length known before the first byte.
 */
export async function upload(
  engine: Engine,
  node: string,
  storage: string,
  file: Upload,
  options: UploadOptions,
): Promise<string> {
  const size = await sizeOf(file.source)
  const stallSeconds = options.stallSeconds ?? STALL_SECONDS
  const stall = new AbortController()
  const timer = setTimeout(
    () => stall.abort(new Error(`nothing moved for ${stallSeconds} s`)),
    stallSeconds * 1000,
  )
  let done = 0
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of open(file.source)) {
      yield chunk
      // Back here, the connection has taken the chunk.
      done += chunk.byteLength
      timer.refresh()
      options.onProgress?.(done, size)
    }
  }
  const form = new FormData()
  form.append('content', file.content)
  if (file.checksum) {
    form.append('checksum-algorithm', file.checksum.algorithm)
    form.append('checksum', file.checksum.value)
  }
  form.append('filename', new StreamedFile(file.filename, size, () => ReadableStream.from(counted())))

  const path = encodePath(`/nodes/${node}/storage/${storage}/upload`)
  engine.writes += 1
  try {
    const { data } = await engine.send({
      method: 'POST',
      path,
      headers: await engine.session.headers(true, options.signal),
      body: form,
      signal: AbortSignal.any([options.signal, stall.signal]),
      seconds: LONGEST_SECONDS,
    })
    return String(data)
  } catch (error) {
    options.signal.throwIfAborted()
    if (stall.signal.aborted || !(error instanceof PveError) || error.delivery !== 'unknown') throw error
    throw await explained(engine, error, { storage, done, size, signal: options.signal })
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Proxmox holds its 401 or 403 back for 3 s and reads nothing meanwhile, so a large upload that it refuses
 * ends in a closed connection instead. Asking for the permission tells the one from the other.
 */
async function explained(
  engine: Engine,
  lost: PveError,
  at: { storage: string; done: number; size: number; signal: AbortSignal },
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
    // The answer to the question is the better explanation: a 401, or nobody there any more.
    if (error instanceof PveError) return error
    throw error
  }
  return new PveError({
    method: lost.method,
    path: lost.path,
    delivery: 'unknown',
    code: 'unreachable',
    what: `the upload to ${at.storage} broke off after ${at.done} of ${at.size} bytes`,
    message: lost.pveMessage,
    next: 'is there room in /var/tmp of the node? Proxmox gathers uploads there. See its journal: journalctl -u pveproxy',
    cause: lost,
  })
}

async function sizeOf(source: UploadSource): Promise<number> {
  if ('bytes' in source) return source.bytes.byteLength
  if ('size' in source) return source.size
  return (await stat(source.path)).size
}

async function* open(source: UploadSource): AsyncGenerator<Uint8Array> {
  if ('bytes' in source) yield source.bytes
  else if ('stream' in source) yield* source.stream
  else yield* createReadStream(source.path, { highWaterMark: CHUNK_BYTES })
}

/** A File whose bytes are not in memory. FormData takes a size and a stream, and asks for no more. */
class StreamedFile extends File {
  readonly #open: () => ReadableStream<Uint8Array>

  constructor(name: string, size: number, open: () => ReadableStream<Uint8Array>) {
    super([], name, { type: 'application/octet-stream' })
    this.#open = open
    Object.defineProperty(this, 'size', { value: size })
  }

  override stream(): ReturnType<File['stream']> {
    return this.#open() as ReturnType<File['stream']>
  }
}

/** @throws ImagebuildError `definition_invalid` where Proxmox would refuse the name, or quietly change it */
export function checkFilename(content: UploadContent, filename: string): void {
  if (ENDINGS[content].test(filename) && /^[A-Za-z0-9_.-]+$/.test(filename) && !filename.startsWith('.'))
    return
  throw new ImagebuildError({
    code: 'definition_invalid',
    what: `${filename} is no name that Proxmox keeps for content ${content}`,
    why: 'it must be letters, digits, dot, dash and underscore, with an ending that fits: .iso or .img (iso), .qcow2, .raw, .vmdk or .ova (import), .tar.gz, .tar.xz or .tar.zst (vztmpl)',
    next: 'choose another name',
  })
}

const ENDINGS: Record<UploadContent, RegExp> = {
  iso: /\.(iso|img)$/i,
  import: /\.(qcow2|raw|vmdk|ova)$/,
  vztmpl: /\.tar\.(gz|xz|zst)$/,
}
