import { createHash, randomUUID } from 'node:crypto'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Writable } from 'node:stream'
import { renameDurably } from '../core/durable-file.ts'
import { ImagebuildError } from '../core/errors.ts'
import { PackerError, type PackerProcess, startPacker } from './packer-process.ts'
import { PACK } from './packing.ts'

/** Bytes read at once for the digest. */
const CHUNK = 2 ** 20

/**
 * A file that is packed with zstd while it is written. It stands beside its place until `keep()`; otherwise nothing
 * of it is left.
 */
export class CompressedFile implements AsyncDisposable {
  readonly #path: string
  readonly #partial: string
  readonly #file: FileHandle
  readonly #packer: PackerProcess

  private constructor(path: string, partial: string, file: FileHandle, packer: PackerProcess) {
    this.#path = path
    this.#partial = partial
    this.#file = file
    this.#packer = packer
  }

  static async create(path: string, signal: AbortSignal): Promise<CompressedFile> {
    const partial = join(dirname(path), `.${basename(path)}.${process.pid}.${randomUUID()}.partial`)
    const file = await open(partial, 'wx+')
    return new CompressedFile(path, partial, file, startPacker(PACK, { stdout: file.fd }, signal))
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
    const digest = await this.#digest(signal)
    await this.#file.chmod(0o644)
    await this.#file.sync()
    await renameDurably(this.#partial, this.#path)
    return digest
  }

  async #digest(signal: AbortSignal): Promise<{ size: number; sha256: string }> {
    const hash = createHash('sha256')
    const chunk = Buffer.allocUnsafeSlow(CHUNK)
    let size = 0
    for (;;) {
      signal.throwIfAborted()
      const { bytesRead } = await this.#file.read(chunk, 0, CHUNK, size)
      if (bytesRead === 0) return { size, sha256: hash.digest('hex') }
      hash.update(chunk.subarray(0, bytesRead))
      size += bytesRead
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#packer[Symbol.asyncDispose]()
    await this.#file.close()
    await rm(this.#partial, { force: true })
  }
}
