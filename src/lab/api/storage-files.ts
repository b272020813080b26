import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { access, rename, rm, stat } from 'node:fs/promises'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { execa } from 'execa'
import { fetch } from 'undici'
import type { Storage } from '../world.ts'
import { failure, messageOf, parameterError } from './errors.ts'
import { discard } from './multipart.ts'
import { refuseInsecure } from './node-routes.ts'
import type { Call } from './router.ts'

/** Files that come onto a storage: uploads, and downloads by the node itself. */

type FileContent = 'iso' | 'vztmpl' | 'import'

const EXTENSIONS: Record<FileContent, { pattern: RegExp; problem: string }> = {
  iso: { pattern: /[^/]+\.(?:iso|img)$/i, problem: 'wrong file extension' },
  vztmpl: { pattern: /[^/]+\.tar\.(?:gz|xz|zst|bz2)$/, problem: 'wrong file extension' },
  import: { pattern: /[^/]+\.(?:ova|qcow2|raw|vmdk)$/, problem: 'invalid filename or wrong extension' },
}
const DECOMPRESS: Record<string, string> = { gz: 'gzip', zst: 'zstd', bz2: 'bzip2', lzo: 'lzop' }

/** The place for a file of this name. @throws ApiError for a storage, a content type or a name that will not do */
function placeFor(
  call: Call,
  doing: 'upload' | 'download',
): { storage: Storage; path: string; filename: string; content: FileContent } {
  const { storage } = call
  const content = call.need('content') as FileContent
  if (storage.type !== 'dir') {
    throw failure(
      doing === 'upload'
        ? `can't upload to storage type '${storage.type}'`
        : `can't upload to storage type '${storage.type}', not a file based storage!`,
    )
  }
  if (!storage.content.includes(content)) {
    throw failure(`storage '${storage.id}' is not configured for content-type '${content}'`)
  }
  const filename = call
    .need('filename')
    .replace(/^.*[/\\]/, '')
    .replace(/[^-a-zA-Z0-9_.]/g, '_')
  const { pattern, problem } = EXTENSIONS[content]
  if (!pattern.test(filename) || filename.startsWith('.')) throw parameterError({ filename: problem })
  return { storage, content, filename, path: storage.place(content, filename).path }
}

/** POST …/upload: the file is here already, checked and moved in the task. */
export async function upload(call: Call): Promise<string> {
  const received = call.upload
  if (!received) throw failure('missing temporary file name')
  const { path, content } = placeFor(call, 'upload')
  const expected = call.text('checksum')?.toLowerCase()
  const size = received.size
  return call.task('imgcopy', '', async ({ log }) => {
    try {
      log(`starting file import from: ${received.file ?? 'the upload'}`)
      if (expected !== undefined && !received.full) {
        log('calculating checksum...')
        compareChecksum(received.digest as string, expected)
        log('OK, checksum verified')
      }
      if (received.file !== undefined && content === 'import')
        await checkImage(received.file, extensionOf(path), log)
      log(`target node: ${call.lab.node}`)
      log(`target file: ${path}`)
      log(`file size is: ${size}`)
      if (received.file === undefined) {
        log(`cp: error writing '${path}': No space left on device`)
        throw failure(`import failed: command 'cp -- ${path}' failed: exit code 1`)
      }
      await rename(received.file, path)
      received.file = undefined
      log('finished file import successfully')
    } finally {
      await discard(received)
    }
  })
}

function extensionOf(path: string): string {
  return path.split('.').at(-1) as string
}

function compareChecksum(got: string, expected: string): void {
  if (got !== expected) throw failure(`checksum mismatch: got '${got}' != expect '${expected}'`)
}

/** An image must be what its name says, before it is let in. */
async function checkImage(file: string, format: string, log: (line: string) => void): Promise<void> {
  if (format === 'ova') {
    const { stdout } = await execa('tar', ['-t', '-f', file], { reject: false })
    if (!/\.ovf$/m.test(stdout)) throw failure('ova archive has no .ovf file inside')
    return
  }
  if (format === 'raw') return
  const args = ['info', '--output=json', '-f', format, file]
  const { exitCode, stdout, stderr } = await execa('qemu-img', args, { reject: false })
  if (exitCode !== 0) {
    log(`command '/usr/bin/qemu-img info '--output=json' ${file} -f ${format}' failed: exit code ${exitCode}`)
    throw failure(stderr.trim())
  }
  if ((JSON.parse(stdout) as Record<string, unknown>)['backing-filename'] !== undefined) {
    throw failure(`image '${file}' refers to a backing file, which an import must not`)
  }
}

/** POST …/download-url: the node fetches the file, in a task. */
export async function downloadUrl(call: Call): Promise<string> {
  const { storage, path, content, filename } = placeFor(call, 'download')
  refuseInsecure(call)
  const url = call.need('url')
  const algorithm = call.text('checksum-algorithm')
  const expected = call.text('checksum')?.toLowerCase()
  const compression = call.text('compression')
  if (compression !== undefined && !(compression in DECOMPRESS)) {
    throw parameterError({
      compression: `value '${compression}' does not have a value in the enumeration '${Object.keys(DECOMPRESS).join(', ')}'`,
    })
  }
  return call.task('download', filename, async ({ log, signal }) => {
    log(`downloading ${url} to ${path}`)
    if (await exists(path)) throw failure(`refusing to override existing file '${path}'`)
    const temporary = `${path}.tmp_dwnl.${process.pid}`
    try {
      await fetchTo(url, temporary, (await storage.status()).avail, log, signal)
      if (algorithm !== undefined && expected !== undefined) {
        log('calculating checksum...')
        const hash = createHash(algorithm)
        await pipeline(createReadStream(temporary), hash, { signal })
        compareChecksum(hash.digest('hex'), expected)
        log('OK, checksum verified')
      }
      if (compression !== undefined) await decompress(temporary, DECOMPRESS[compression] as string, log)
      if (content === 'import') {
        try {
          await checkImage(temporary, extensionOf(path), log)
        } catch (error) {
          throw failure(`failed to verify file: ${messageOf(error)}`)
        }
      }
      await rename(temporary, path)
      log(`download of '${url}' to '${path}' finished`)
    } finally {
      await rm(temporary, { force: true })
    }
  })
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function decompress(file: string, program: string, log: (line: string) => void): Promise<void> {
  log(`decompressing with ${program}`)
  const output = `${file}.raw`
  await execa(program, ['-d', '-c', file], { stdout: { file: output } })
  await rename(output, file)
}

/** seconds between two lines about the progress of a download */
const PROGRESS_SECONDS = 2

/**
 * Fails as wget does: `download failed: exit code 8` for a server's refusal, 4 when there is no connection, 3 when
 * there is no room.
 * @param room bytes that are left there
 */
async function fetchTo(
  url: string,
  file: string,
  room: number,
  log: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const response = await fetch(url, { signal }).catch((error: Error & { cause?: Error }) => {
    log(`failed: ${error.cause?.message ?? error.message}`)
    throw failure(signal.aborted ? 'download failed: received interrupt' : 'download failed: exit code 4')
  })
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
    log(code === 'ENOSPC' ? `Cannot write to '${file}' (No space left on device).` : messageOf(error))
    throw failure(
      signal.aborted
        ? 'download failed: received interrupt'
        : `download failed: exit code ${code === 'ENOSPC' ? 3 : 4}`,
    )
  }
  log(`'${file}' saved [${(await stat(file)).size}/${total ?? done}]`)
}
