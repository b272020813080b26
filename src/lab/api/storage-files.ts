import { rename } from 'node:fs/promises'
import { execa } from 'execa'
import type { Release } from '../release.ts'
import type { Storage } from '../world.ts'
import { compareChecksum, download } from './download.ts'
import { failure, messageOf, parameterError } from './errors.ts'
import { discard } from './multipart.ts'
import { refuseInsecure } from './node-routes.ts'
import type { Call } from './router.ts'

/** Files that come onto a storage: uploads, and downloads by the node itself. */

type FileContent = 'iso' | 'vztmpl' | 'import'

const extensions = (pve: Release): Record<FileContent, { pattern: RegExp; problem: string }> => ({
  iso: { pattern: /[^/]+\.(?:iso|img)$/i, problem: 'wrong file extension' },
  vztmpl: { pattern: pve.archives, problem: 'wrong file extension' },
  import: { pattern: /[^/]+\.(?:ova|qcow2|raw|vmdk)$/, problem: 'invalid filename or wrong extension' },
})
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
  const { pattern, problem } = extensions(call.lab.pve)[content]
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
        throw failure(`import failed: cp: error writing '${path}': No space left on device`)
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
  const checksum = algorithm === undefined || expected === undefined ? undefined : { algorithm, expected }
  return call.task('download', filename, (task) => {
    const prepare = async (file: string) => {
      if (compression !== undefined) await decompress(file, DECOMPRESS[compression] as string, task.log)
      if (content !== 'import') return
      await checkImage(file, extensionOf(path), task.log).catch((error) => {
        throw failure(`failed to verify file: ${messageOf(error)}`)
      })
    }
    return download({ url, path, storage, checksum, prepare }, task)
  })
}

async function decompress(file: string, program: string, log: (line: string) => void): Promise<void> {
  log(`decompressing with ${program}`)
  const output = `${file}.raw`
  await execa(program, ['-d', '-c', file], { stdout: { file: output } })
  await rename(output, file)
}
