import { open } from 'node:fs/promises'

/** Bytes that are read at once: few enough for a flat memory, many enough for a fast line. */
const CHUNK = 2 ** 18

/**
 * The bytes of a file, in two buffers that take turns: one is filled while the other is used, so a chunk is good only
 * until the next one is asked for. A stream takes a new buffer for each chunk instead, and what a file of gigabytes then
 * occupies depends on when the garbage collector comes: on a busy machine, late.
 * @throws the error of the file system; the signal's reason
 */
export async function* fileChunks(path: string, signal?: AbortSignal): AsyncGenerator<Buffer> {
  await using file = await open(path)
  const read = (into: Buffer) => {
    const reading = file.read(into, 0, CHUNK, null)
    // Whoever stops in the middle does not wait for it.
    reading.catch(() => {})
    return reading
  }
  let [chunk, spare] = [Buffer.allocUnsafeSlow(CHUNK), Buffer.allocUnsafeSlow(CHUNK)]
  for (let reading = read(chunk); ; ) {
    const { bytesRead } = await reading
    signal?.throwIfAborted()
    if (bytesRead === 0) return
    reading = read(spare)
    yield chunk.subarray(0, bytesRead)
    ;[chunk, spare] = [spare, chunk]
  }
}
