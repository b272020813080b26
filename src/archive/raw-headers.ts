import { HEADER_LIMIT } from './limits.ts'
import { Refusal } from './refusal.ts'

/**
 * Bytes that a reader may buffer before it makes an entry of them: extended headers, or the empty blocks at the end
 * (bsdtar and GNU tar fill up to 10 KiB, and tapes of old to 1 MiB); and a chunk beside.
 */
export const PENDING_LIMIT = 4 * HEADER_LIMIT

/**
 * Keeps the bytes of an archive that stand between contents: headers, exactly as they were. tar-stream reads
 * them too, but as UTF-8, which capabilities and some names are not.
 */
export class RawHeaders {
  #chunks: Buffer[] = []
  /** offset in the archive of the first byte that is kept */
  #start = 0
  /** offset of the end of all that came */
  #end = 0
  /** offset of the next header: what is before belongs to contents */
  #next = 0

  /** bytes so far */
  get total(): number {
    return this.#end
  }

  push(chunk: Buffer): void {
    this.#end += chunk.length
    if (this.#end <= this.#next) {
      this.#start = this.#end
      return
    }
    this.#chunks.push(chunk)
    this.#forget()
    if (this.#end - this.#next > PENDING_LIMIT) {
      throw new Refusal(
        `more than ${PENDING_LIMIT / 2 ** 20} MiB of headers, or of nothing, without an entry`,
      )
    }
  }

  /** The headers up to where an entry's contents begin, and after `size` bytes of which comes the next header. */
  take(contents: number, size: number): Buffer {
    const headers = this.#between(this.#next, contents)
    this.#next = contents + Math.ceil(size / 512) * 512
    this.#forget()
    return headers
  }

  /** What came after the last entry. */
  rest(): Buffer {
    return this.#between(this.#next, this.#end)
  }

  #between(from: number, to: number): Buffer {
    const [first] = this.#chunks
    // The usual case, without a copy.
    if (first && to - this.#start <= first.length) return first.subarray(from - this.#start, to - this.#start)
    return Buffer.concat(this.#chunks).subarray(
      Math.max(0, from - this.#start),
      Math.max(0, to - this.#start),
    )
  }

  #forget(): void {
    for (
      let first = this.#chunks[0];
      first && this.#start + first.length <= this.#next;
      first = this.#chunks[0]
    ) {
      this.#chunks.shift()
      this.#start += first.length
    }
  }
}
