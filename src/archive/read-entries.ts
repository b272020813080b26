import { extract } from 'tar-stream'
import type { Entry } from './entry.ts'
import { type ArchiveLimits, RATIO_FROM } from './limits.ts'
import { RawHeaders } from './raw-headers.ts'
import { type ReadHeader, readHeader } from './read-header.ts'
import { Refusal } from './refusal.ts'
import type { Unpacked } from './unpacked.ts'

export interface ReadEntry {
  entry: Entry
  /** exactly `entry.size` bytes; what is not read is skipped */
  body: AsyncIterable<Buffer>
}

/**
 * The entries of an archive one after the other, each checked by itself; how they belong together is the tree's.
 * @throws Refusal for what breaks the format or the limits; whatever reading the bytes throws
 */
export async function* readEntries(
  unpacked: Unpacked,
  limits: ArchiveLimits,
  onProgress: (uncompressed: number) => void = () => {},
): AsyncGenerator<ReadEntry> {
  const raw = new RawHeaders()
  const reader = extract({ filenameEncoding: 'latin1' } as object)
  let failure: unknown
  let drained = Promise.withResolvers<void>()
  reader.on('drain', () => drained.resolve())
  reader.on('close', () => drained.resolve())
  const feeding = (async () => {
    for await (const chunk of unpacked) {
      if (reader.destroyed) return
      raw.push(chunk)
      checkSize(raw.total, unpacked.packed(), limits)
      onProgress(raw.total)
      if (!reader.write(chunk)) {
        drained = Promise.withResolvers<void>()
        await drained.promise
      }
    }
    reader.end(undefined)
  })().catch((error) => {
    failure = error
    reader.destroy(error as Error)
  })
  let count = 0
  let last: string | undefined
  try {
    for await (const stream of reader) {
      const header = stream.header as unknown as ReadHeader & { byteOffset: number }
      if (++count > limits.entries) throw new Refusal(`it has more than ${limits.entries} entries`)
      const entry = readHeader(header, raw.take(header.byteOffset, header.size))
      last = entry.name
      yield { entry, body: stream as unknown as AsyncIterable<Buffer> }
      stream.resume()
    }
    await feeding
    checkEnd(raw.rest(), last)
  } catch (error) {
    if (failure !== undefined) throw failure
    throw brokenFormat(error, last)
  } finally {
    // What feeds it ends with the next chunk, or when the input is closed.
    reader.destroy()
  }
}

/** What tar-stream says of an archive that is none. */
const TAR_STREAM_ERRORS = /^(Invalid (tar )?header|Unexpected end of data|Header exceeds max size)/

/** The same error, as a refusal if it is tar-stream's; reading a body may throw those, too. */
export function brokenFormat(error: unknown, entry: string | undefined): unknown {
  return error instanceof Error && TAR_STREAM_ERRORS.test(error.message)
    ? new Refusal(`its format is broken: ${error.message}`, entry, { cause: error })
    : error
}

function checkSize(uncompressed: number, packed: number, limits: ArchiveLimits): void {
  if (uncompressed > limits.uncompressed) {
    throw new Refusal(`it unpacks to more than ${limits.uncompressed} bytes`)
  }
  if (uncompressed > RATIO_FROM && uncompressed > packed * limits.ratio) {
    throw new Refusal(`it unpacks to more than ${limits.ratio} times its size (${packed} bytes so far)`)
  }
}

/** Two empty blocks end an archive; without them, more may have followed. */
function checkEnd(rest: Buffer, last: string | undefined): void {
  if (rest.some((byte) => byte !== 0)) throw new Refusal('something follows the end of the archive', last)
  if (rest.length < 1024)
    throw new Refusal('it is cut off: the two empty blocks at its end are missing', last)
}
