import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, open, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { execa } from 'execa'
import type { Event } from '../src/core/events.ts'
import { hashFile } from '../src/source/cache.ts'
import { PeakMemory } from './peak-memory.ts'
import type { Measured } from './statistics.ts'
import { makeWorkspace, ROOT } from './workspace.ts'

const MIB = 2 ** 20
const GIB = 2 ** 30

/** Bytes of the image that is streamed. */
const SIZE = 2 * GIB

/** Bytes that the program may occupy at its peak. */
const LIMIT = 200 * MIB

const IMAGE = 'two-gibibytes'

/**
 * Peak memory of `imagebuild run` while it downloads an image of 2 GiB from an HTTP server, verifies it, and
 * uploads it over TLS to the lab. Server and lab are processes of their own and do not count. The run is interrupted
 * as soon as the image is on the storage: the disk holds nothing that could boot.
 */
export async function measureStreaming(signal: AbortSignal): Promise<Measured[]> {
  await using workspace = await makeWorkspace()
  const disk = join(workspace.folder, 'disk.raw')
  await writeDisk(disk)
  await using server = await serve(disk)
  const definition = join(workspace.project, 'images', IMAGE)
  await mkdir(definition, { recursive: true })
  const checksum = `sha256:${await hashFile('sha256', disk, signal)}`
  await writeFile(
    join(definition, 'image.yaml'),
    `name: ${IMAGE}\nkind: vm\nsource:\n  url: ${server.url}/disk.raw\n  checksum: ${checksum}\n  format: raw\n`,
  )
  const env = {
    ...workspace.env,
    IMAGEBUILD_CACHE_DIR: join(workspace.folder, 'cache'),
    // The server is on this machine, whatever proxy the user has.
    no_proxy: '127.0.0.1',
    NO_PROXY: '127.0.0.1',
  }
  const program = join(ROOT, 'imagebuild')
  const common = { cwd: workspace.project, env, stdin: 'ignore', reject: false } as const
  // The lab's daemon would otherwise be the run's child, and be counted.
  const { exitCode, stderr } = await execa(program, ['lab', 'start'], common)
  if (exitCode !== 0) throw new Error(stderr)

  const running = execa(program, ['run', IMAGE, '--json'], { ...common, buffer: false, cancelSignal: signal })
  using memory = new PeakMemory(running.pid as number)
  let downloaded: number | undefined
  let uploaded: number | undefined
  let done = 0
  const lines: string[] = []
  for await (const line of running) {
    const event = JSON.parse(line) as Event
    if (event.type !== 'progress') lines.push(line)
    if (event.type === 'progress') {
      // It begins at nothing again: the upload.
      if (event.done < done) downloaded ??= await memory.look()
      done = event.done
    }
    if (event.type === 'step.end' && event.step === 'source' && event.ok) {
      uploaded = await memory.look()
      running.kill('SIGINT')
    }
  }
  await running
  signal.throwIfAborted()
  if (downloaded === undefined || uploaded === undefined) {
    throw new Error(`the image did not reach the storage:\n${lines.slice(-20).join('\n')}`)
  }
  const size = `${SIZE / GIB} GiB`
  return [
    { what: `peak memory, ${size} downloaded and verified`, ...bounded(downloaded) },
    { what: `peak memory, ${size} uploaded as well`, ...bounded(uploaded) },
  ]
}

function bounded(bytes: number): Omit<Measured, 'what'> {
  return { figure: `${(bytes / MIB).toFixed(0)} MiB`, limit: `below ${LIMIT / MIB} MiB`, kept: bytes < LIMIT }
}

/** A disk with holes: 1 MiB of noise in every 16. */
async function writeDisk(path: string): Promise<void> {
  await using file = await open(path, 'w')
  await file.truncate(SIZE)
  for (let at = 0; at < SIZE; at += 16 * MIB) await file.write(randomBytes(MIB), 0, MIB, at)
}

async function serve(path: string): Promise<{ url: string } & AsyncDisposable> {
  const server: Server = createServer((request, response) => {
    // The node asks first, and is sent away: what is measured is the way over the client.
    if (request.headers['user-agent'] !== 'imagebuild') {
      response.writeHead(403).end()
      return
    }
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': SIZE })
    createReadStream(path).pipe(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
