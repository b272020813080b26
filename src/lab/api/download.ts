import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { access, rename, rm, stat } from 'node:fs/promises'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { fetch } from 'undici'
import type { Storage } from '../world.ts'
import { failure, messageOf } from './errors.ts'
import type { TaskContext } from './tasks.ts'

/** Files that the node itself fetches, in tasks. */

export interface Download {
  url: string
  /** its final place; nothing is there before it is whole and checked */
  path: string
  storage: Storage
  checksum?: { algorithm: string; expected: string } | undefined
  /** what else is done to the file, before it gets its name */
  prepare?: (file: string) => Promise<void>
}

export async function download(wanted: Download, { log, signal }: TaskContext): Promise<void> {
  const { url, path, storage, checksum } = wanted
  log(`downloading ${url} to ${path}`)
  if (await exists(path)) throw failure(`refusing to override existing file '${path}'`)
  const temporary = `${path}.tmp_dwnl.${process.pid}`
  try {
    await fetchTo(url, temporary, (await storage.status()).avail, log, signal)
    if (checksum !== undefined) {
      log('calculating checksum...')
      compareChecksum(await digestOf(temporary, checksum.algorithm, signal), checksum.expected)
      log('OK, checksum verified')
    }
    await wanted.prepare?.(temporary)
    await rename(temporary, path)
    log(`download of '${url}' to '${path}' finished`)
  } finally {
    await rm(temporary, { force: true })
  }
}

export async function digestOf(file: string, algorithm: string, signal: AbortSignal): Promise<string> {
  const hash = createHash(algorithm)
  await pipeline(createReadStream(file), hash, { signal })
  return hash.digest('hex')
}

export function compareChecksum(got: string, expected: string): void {
  if (got !== expected) throw failure(`checksum mismatch: got '${got}' != expect '${expected}'`)
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** In strerror(3)'s words, as wget says it. */
function connectionError(cause: (Error & { code?: string }) | undefined): string {
  if (cause?.code === 'ECONNREFUSED') return 'Connection refused'
  return cause?.message ?? 'Network is unreachable'
}

/** seconds between two lines about the progress of a download */
const PROGRESS_SECONDS = 2

/**
 * Fails as wget does: `download failed: ` and the last line of its stderr, or where that is blank `exit code 8` for a
 * server's refusal, 4 when the connection breaks.
 * @param room bytes that are left there
 */
async function fetchTo(
  url: string,
  file: string,
  room: number,
  log: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const response = await fetch(url, { signal }).catch(
    (error: Error & { cause?: Error & { code?: string } }) => {
      const line = `Connecting to ${new URL(url).host}... failed: ${connectionError(error.cause)}.`
      log(line)
      throw failure(`download failed: ${signal.aborted ? 'received interrupt' : line}`)
    },
  )
  log(`HTTP request sent, awaiting response... ${response.status} ${response.statusText}`)
  if (!response.ok || response.body === null) {
    log(`ERROR ${response.status}: ${response.statusText}.`)
    throw failure('download failed: exit code 8')
  }
  const total = response.headers.get('content-length')
  log(
    `Length: ${total ?? 'unspecified'} [${response.headers.get('content-type') ?? 'application/octet-stream'}]`,
  )
  log(`Saving to: '${file}'`)
  let done = 0
  let told = Date.now()
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      done += chunk.length
      if (done > room) return next(Object.assign(new Error('no room'), { code: 'ENOSPC' }))
      if (Date.now() - told > PROGRESS_SECONDS * 1000) {
        told = Date.now()
        log(
          total === null
            ? `${done} bytes`
            : `${done} of ${total} bytes (${Math.floor((done * 100) / Number(total))}%)`,
        )
      }
      next(null, chunk)
    },
  })
  try {
    await pipeline(
      Readable.fromWeb(response.body as import('node:stream/web').ReadableStream),
      measure,
      createWriteStream(file),
      { signal },
    )
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (signal.aborted) throw failure('download failed: received interrupt')
    if (code === 'ENOSPC')
      throw failure(`download failed: Cannot write to '${file}' (No space left on device).`)
    log(messageOf(error))
    throw failure('download failed: exit code 4')
  }
  log(`'${file}' saved [${(await stat(file)).size}/${total ?? done}]`)
}
