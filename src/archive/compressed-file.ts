import { createHash, randomUUID } from 'node:crypto'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { renameDurably } from '../core/durable-file.ts'
import { ImagebuildError } from '../core/errors.ts'
import { PackerError, type PackerProcess, startPacker } from './packer-process.ts'
import { PACK } from './packing.ts'

/** Bytes read at once for the digest. */
const CHUNK = 2 ** 20

/** Milliseconds between two looks at what the packer has written. */
const FOLLOW_EVERY = 1000

/**
 * A file that is packed with zstd while it is written. It stands beside its place until `keep()`; otherwise nothing
 * of it is left.
 */
export class CompressedFile implements AsyncDisposable {
  readonly #path: string
  readonly #partial: string
  readonly #file: FileHandle
  readonly #packer: PackerProcess
  readonly #following: Promise<void>
  readonly #chunk = Buffer.allocUnsafeSlow(CHUNK)
  readonly #hash = createHash('sha256')
  /** bytes that the digest has seen */
  #size = 0

  private constructor(path: string, partial: string, file: FileHandle, signal: AbortSignal) {
    this.#path = path
    this.#partial = partial
    this.#file = file
    this.#packer = startPacker(PACK, { stdout: file.fd }, signal)
    this.#following = this.#follow(signal)
    // Whoever keeps the file hears of it.
    this.#following.catch(() => {})
  }

  static async create(path: string, signal: AbortSignal): Promise<CompressedFile> {
    const partial = join(dirname(path), `.${basename(path)}.${process.pid}.${randomUUID()}.partial`)
    const file = await open(partial, 'wx+')
    return new CompressedFile(path, partial, file, signal)
  }

  /** Takes what is to be packed. */
  get stdin(): Writable {
    return this.#packer.stdin
  }

  /** Rejects when the packer fails, as soon as it does. */
  async packed(): Promise<void> {
    try {
      await this.#packer.done
    } catch (cause) {
      if (!(cause instanceof PackerError)) throw cause
      throw new ImagebuildError({
        code: 'build_failed',
        what: `${this.#path} cannot be written`,
        why: cause.message,
        next: 'look whether the disk is full',
        cause,
      })
    }
  }

  /** Waits for the packer, and puts the file in its place, safely on the disk. */
  async keep(signal: AbortSignal): Promise<{ size: number; sha256: string }> {
    await this.packed()
    await this.#following
    await this.#flush(signal)
    await this.#file.chmod(0o644)
    await this.#file.sync()
    await renameDurably(this.#partial, this.#path)
    return { size: this.#size, sha256: this.#hash.digest('hex') }
  }

  /**
   * Hashes what the packer writes and sends it to the disk, while the packer works: both after it would make everybody
   * wait, for a second where the file has half a gigabyte.
   */
  async #follow(signal: AbortSignal): Promise<void> {
    let working = true
    const ended = this.#packer.done.catch(() => {}).then(() => (working = false))
    while (working) {
      await this.#flush(signal)
      await Promise.race([ended, sleep(FOLLOW_EVERY, undefined, { ref: false })])
    }
  }

  /** All that was written since the last time. */
  async #flush(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted()
      const { bytesRead } = await this.#file.read(this.#chunk, 0, CHUNK, this.#size)
      if (bytesRead === 0) break
      this.#hash.update(this.#chunk.subarray(0, bytesRead))
      this.#size += bytesRead
    }
    await this.#file.datasync()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#packer[Symbol.asyncDispose]()
    await this.#following.catch(() => {})
    await this.#file.close()
    await rm(this.#partial, { force: true })
  }
}
