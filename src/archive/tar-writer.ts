import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'

/** Bytes that are written at once: many small files make one write. */
const BATCH = 2 ** 18

const BLOCK = 512
/** GNU tar's and bsdtar's own: archives are filled up to a multiple of it. */
const RECORD = 20 * BLOCK

/**
 * Writes blocks of tar into a stream, in two batches that take turns: one is filled while the other is on its way, so
 * that memory stays the same however large the archive.
 */
export class TarWriter {
  readonly #sink: Writable
  #batch = Buffer.allocUnsafeSlow(BATCH)
  #other = Buffer.allocUnsafeSlow(BATCH)
  #used = 0
  #onItsWay: Promise<void> = Promise.resolve()
  /** whether what it writes to has ended before time */
  get broken(): boolean {
    return this.#sink.destroyed
  }

  /** bytes so far */
  total = 0

  constructor(sink: Writable) {
    this.#sink = sink
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.total += bytes.length
    let at = 0
    while (at < bytes.length) {
      const taken = Math.min(bytes.length - at, BATCH - this.#used)
      this.#batch.set(at === 0 && taken === bytes.length ? bytes : bytes.subarray(at, at + taken), this.#used)
      this.#used += taken
      at += taken
      if (this.#used === BATCH) await this.#flush()
    }
  }

  /** Zeros up to the next multiple of a block. */
  async pad(to = BLOCK): Promise<void> {
    const missing = (to - (this.total % to)) % to
    if (missing > 0) await this.write(ZEROS.subarray(0, missing))
  }

  /** The two empty blocks that end an archive, and the end of the stream. */
  async end(): Promise<void> {
    await this.write(ZEROS.subarray(0, 2 * BLOCK))
    await this.pad(RECORD)
    await this.#flush()
    await this.#onItsWay
    this.#sink.end()
    await finished(this.#sink, { readable: false })
  }

  async #flush(): Promise<void> {
    await this.#onItsWay
    const full = this.#batch.subarray(0, this.#used)
    this.#onItsWay = new Promise((resolve, reject) => {
      this.#sink.write(full, (error) => (error ? reject(error) : resolve()))
    })
    // It is awaited with the next batch.
    this.#onItsWay.catch(() => {})
    ;[this.#batch, this.#other] = [this.#other, this.#batch]
    this.#used = 0
  }
}

const ZEROS = Buffer.alloc(RECORD)
