import { once } from 'node:events'
import { type FileHandle, open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { startPacker } from './packer-process.ts'
import { MAGIC_BYTES, type Packing, packingOf, UNPACK } from './packing.ts'
import { freeSpentChunks } from './spent-chunks.ts'

/** Bytes that are read at once. */
const PIECE = 2 ** 18

/** A file, or bytes that arrive. */
export type ArchiveInput = string | Readable

/** The unpacked bytes of an archive. `packed()` says how many packed ones they are made of at most. */
export interface Unpacked extends AsyncIterable<Buffer> {
  packing: Packing
  packed(): number
}

/**
 * Opens an archive, however it is packed; what packs it is told by its first bytes. Iterating ends after the packer
 * has ended well.
 * @throws PackerError where the bytes are not what the packing says; the signal's reason
 */
export async function openArchive(
  input: ArchiveInput,
  signal: AbortSignal,
): Promise<Unpacked & AsyncDisposable> {
  return typeof input === 'string' ? openFile(input, signal) : openStream(input, signal)
}

async function openFile(path: string, signal: AbortSignal): Promise<Unpacked & AsyncDisposable> {
  const stack = new AsyncDisposableStack()
  const file: FileHandle = await open(path)
  stack.use(file)
  const { size } = await file.stat()
  const start = Buffer.alloc(MAGIC_BYTES)
  await file.read(start, 0, MAGIC_BYTES, 0)
  const packing = packingOf(start)
  if (packing === 'none') {
    const bytes = file.createReadStream({ start: 0, autoClose: false, highWaterMark: PIECE, signal })
    return owned(stack, packing, bytes, () => size)
  }
  const packer = stack.use(startPacker(UNPACK[packing], { stdin: file.fd }, signal))
  return owned(stack, packing, thenDone(packer.stdout, packer.done), () => size)
}

async function openStream(input: Readable, signal: AbortSignal): Promise<Unpacked & AsyncDisposable> {
  const stack = new AsyncDisposableStack()
  const stop = () => input.destroy(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  stack.defer(() => {
    signal.removeEventListener('abort', stop)
    input.on('error', () => {}).destroy()
  })
  let packed = 0
  const chunks = input[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const first: Buffer[] = []
  while (packed < MAGIC_BYTES) {
    const { value, done } = await chunks.next()
    if (done) break
    first.push(value)
    packed += value.length
  }
  const all = (async function* () {
    for (const chunk of first) yield* pieces(chunk)
    for (;;) {
      const { value, done } = await chunks.next()
      if (done) return
      packed += value.length
      yield* pieces(value)
    }
  })()
  const packing = packingOf(Buffer.concat(first))
  if (packing === 'none') return owned(stack, packing, all, () => packed)
  const packer = stack.use(startPacker(UNPACK[packing], {}, signal))
  const fed = feed(all, packer.stdin)
  fed.catch((error) => packer.stdout.destroy(error))
  const done = Promise.all([packer.done, fed])
  // Where the archive is refused before its end, nobody waits for it.
  done.catch(() => {})
  return owned(stack, packing, thenDone(packer.stdout, done), () => packed)
}

/** Whoever produces them may hand over all at once. */
function* pieces(chunk: Buffer): Generator<Buffer> {
  for (let at = 0; at < chunk.length; at += PIECE) yield chunk.subarray(at, at + PIECE)
}

async function feed(chunks: AsyncIterable<Buffer>, into: NodeJS.WritableStream): Promise<void> {
  const closed = new AbortController()
  into.once('close', () => closed.abort())
  for await (const chunk of chunks) {
    if (closed.signal.aborted) return
    if (!into.write(chunk)) await once(into, 'drain', { signal: closed.signal }).catch(() => {})
  }
  into.end()
}

async function* thenDone(bytes: Readable, done: Promise<unknown>): AsyncGenerator<Buffer> {
  yield* freeSpentChunks(bytes)
  await done
}

function owned(
  stack: AsyncDisposableStack,
  packing: Packing,
  bytes: AsyncIterable<Buffer>,
  packed: () => number,
): Unpacked & AsyncDisposable {
  return {
    packing,
    packed,
    [Symbol.asyncIterator]: () => bytes[Symbol.asyncIterator](),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}
