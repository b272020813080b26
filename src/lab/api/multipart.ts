import { createHash, type Hash, randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { Transform, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import busboy from 'busboy'

/**
 * Uploads as Proxmox reads them: parts in one order only, each with Content-Disposition as its first header, the
 * boundary unquoted. The file goes straight to the disk it will stay on; nothing of it is kept in memory.
 */
export interface Upload {
  fields: Record<string, string>
  /** undefined where the data was thrown away: no room, or no place for it */
  file: string | undefined
  size: number
  /** the storage had no room */
  full: boolean
  /** hex digest by the `checksum-algorithm` that was sent */
  digest: string | undefined
}

/** An answer of the HTTP layer itself: text or nothing, never JSON. */
export class TransportError extends Error {
  override readonly name = 'TransportError'
  readonly status: number
  readonly empty: boolean
  constructor(status: number, message: string, empty = false) {
    super(message)
    this.status = status
    this.empty = empty
  }
}

const FIELD_ORDER = ['content', 'checksum-algorithm', 'checksum']
/** bytes within which the file part must begin */
const PREAMBLE_LIMIT = 64 * 1024
/** names of half-received files; the API clears such leftovers away when it starts */
export const UPLOAD_PREFIX = '.pveupload-'

/** 'more': the file part has not begun yet. @throws TransportError for what Proxmox refuses */
export function checkPreamble(text: string, boundary: string): 'more' | 'fine' {
  const delimiter = `--${boundary}\r\n`
  let rest = text
  let next = 0
  for (;;) {
    if (!rest.startsWith(delimiter)) {
      if (delimiter.startsWith(rest)) return 'more'
      if (rest.startsWith(`--${boundary}--`)) return 'fine'
      throw new TransportError(500, 'upload failed')
    }
    const end = rest.indexOf('\r\n\r\n')
    if (end === -1) return 'more'
    const header = /^Content-Disposition: form-data; name="([^"]*)"(?:; filename="([^"]+)")?/i.exec(
      rest.slice(delimiter.length, end),
    )
    if (!header) throw new TransportError(500, 'upload failed')
    const name = header[1] as string
    if (header[2] !== undefined) {
      if (name === 'filename') return 'fine'
      throw new TransportError(500, `wrong field name '${name}' for file upload, expected 'filename'`)
    }
    const position = FIELD_ORDER.indexOf(name)
    if (position < next) throw new TransportError(400, 'Bad Request', true)
    next = position + 1
    const following = rest.indexOf(`\r\n--${boundary}`, end + 2)
    if (following === -1) return 'more'
    rest = rest.slice(following + 2)
  }
}

/** Holds the stream back until its beginning is known to be right. */
function preambleCheck(boundary: string): Transform {
  let held: Buffer | undefined = Buffer.alloc(0)
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (!held) return done(null, chunk)
      held = Buffer.concat([held, chunk])
      try {
        const verdict = checkPreamble(held.toString('latin1', 0, PREAMBLE_LIMIT), boundary)
        if (verdict === 'more') {
          if (held.length > PREAMBLE_LIMIT) throw new TransportError(500, 'upload failed')
          return done()
        }
        const all = held
        held = undefined
        return done(null, all)
      } catch (error) {
        return done(error as Error)
      }
    },
    flush(done) {
      done(held ? new TransportError(500, 'upload failed') : null)
    },
  })
}

const HASHES = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512']

/**
 * Reads one upload.
 * @param folder where the file is put, on the storage's own file system; undefined throws the data away
 * @param room bytes that are left there
 */
export async function receiveUpload(
  request: IncomingMessage,
  folder: string | undefined,
  room: number,
): Promise<Upload> {
  const contentType = request.headers['content-type'] ?? ''
  const boundary = /^multipart\/form-data;\s*boundary=(.+)$/i.exec(contentType)?.[1] as string
  const upload: Upload = { fields: {}, file: undefined, size: 0, full: false, digest: undefined }
  const parser = busboy({ headers: request.headers, limits: { files: 1 }, defParamCharset: 'utf8' })
  let writing: Promise<void> = Promise.resolve()
  let hash: Hash | undefined
  parser.on('field', (name, value) => {
    upload.fields[name] = value
  })
  parser.on('file', (_name, content, info) => {
    upload.fields.filename = info.filename ?? ''
    const algorithm = upload.fields['checksum-algorithm']
    if (algorithm !== undefined && HASHES.includes(algorithm)) hash = createHash(algorithm)
    const measured = content.map((chunk: Buffer) => {
      upload.size += chunk.length
      hash?.update(chunk)
      return chunk
    })
    upload.full = folder !== undefined && Number(request.headers['content-length'] ?? 0) > room
    if (folder === undefined || upload.full) {
      writing = pipeline(measured, nowhere())
      return
    }
    const file = join(folder, `${UPLOAD_PREFIX}${randomBytes(16).toString('hex')}`)
    upload.file = file
    writing = pipeline(measured, toDisk(file, upload))
  })
  const checked = preambleCheck(boundary)
  // Not part of the pipeline: a refused request must stay open for its answer.
  request.pipe(checked)
  const lost = () => {
    if (!request.complete) checked.destroy(new Error('the client went away'))
  }
  request.once('close', lost)
  try {
    await pipeline(checked, parser)
    await writing
    upload.digest = hash?.digest('hex')
    if (upload.full) await discard(upload)
    return upload
  } catch (error) {
    request.unpipe(checked)
    await writing.catch(() => undefined)
    await discard(upload)
    throw error
  } finally {
    request.off('close', lost)
  }
}

export async function discard(upload: Upload): Promise<void> {
  if (upload.file === undefined) return
  const { file } = upload
  upload.file = undefined
  await rm(file, { force: true })
}

function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() })
}

/** A full disk ends the writing but not the reading: Proxmox tells of it in the task. */
function toDisk(file: string, upload: Upload): Writable {
  const target = createWriteStream(file, { mode: 0o644 })
  return new Writable({
    highWaterMark: 1 << 20,
    write(chunk, encoding, done) {
      if (upload.full) return done()
      target.write(chunk, encoding, (error) => {
        if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOSPC') {
          upload.full = true
          return done()
        }
        return done(error)
      })
    },
    final(done) {
      if (upload.full) {
        target.destroy()
        return done()
      }
      target.end((error?: Error | null) => done(error))
    },
    construct(done) {
      target.on('error', () => undefined)
      done()
    },
  })
}
