import { Additions, type ArchiveFile } from './additions.ts'
import { CompressedFile } from './compressed-file.ts'
import type { ArchiveContents } from './contents.ts'
import { explain } from './explain.ts'
import { type ArchiveLimits, DEFAULT_LIMITS } from './limits.ts'
import { passThrough } from './pass.ts'
import type { Origin } from './refusal.ts'
import { TarWriter } from './tar-writer.ts'
import { Tree } from './tree.ts'
import { type ArchiveInput, openArchive } from './unpacked.ts'
import { encodeHeader } from './write-header.ts'

export interface RewriteOptions {
  /** tar, bare or packed with gzip, xz or zstd: a path, or its bytes. A stream is destroyed when it is done with. */
  input: ArchiveInput
  /** path of the new archive, packed with zstd; what is there is replaced, once the new one is complete */
  output: string
  /** what errors call the input, and whose fault it is if it is refused; the definition's unless given */
  origin?: Partial<Origin>
  /** what is put in, after all that the input has */
  add?: readonly ArchiveFile[]
  /**
   * Asked for the path of every entry (`var/cache/apt`, no slash before it) whether it is left out. What is in a
   * directory that is left out goes with it.
   */
  drop?: (path: string) => boolean
  /** seconds since 1970: later times become this one, and it is the time of what is added; then 0 unless given */
  sourceDateEpoch?: number
  limits?: Partial<ArchiveLimits>
  signal: AbortSignal
  /** bytes of the unpacked input so far */
  onProgress?: (uncompressed: number) => void
}

export interface Rewritten extends ArchiveContents {
  /** bytes of the file */
  size: number
  /** hex, of the file */
  sha256: string
}

/**
 * Streams the archive of a root file system into a new one, which has the one form that our archives have
 * (`encodeHeader`): checked against hostile content, device nodes below /dev left out, files added, packed with zstd.
 * Nothing is unpacked to the disk.
 *
 * The same input and additions give the same bytes, on any number of processors, with the same version of zstd. The
 * order of the input is kept (`tar --sort=name` makes one that does not depend on the disk), what is added follows
 * by path. Kept are modes, numeric owners, times in whole seconds, hard links, extended attributes and ACLs, byte
 * for byte; not kept are names of owners, other times, inode numbers.
 *
 * @throws ImagebuildError with `origin.blame` for an archive that is broken, hostile or beyond the limits, naming the
 *   entry; `build_failed` if the output cannot be written; `prerequisite_missing` without the packer; the signal's reason. Nothing is left behind then.
 */
export async function rewriteArchive(options: RewriteOptions): Promise<Rewritten> {
  const { input, signal, sourceDateEpoch } = options
  return explain(options, async () => {
    const tree = new Tree()
    const additions = new Additions(options.add ?? [], tree, sourceDateEpoch ?? 0)
    await using unpacked = await openArchive(input, signal)
    await using file = await CompressedFile.create(options.output, signal)
    const writer = new TarWriter(file.stdin)
    let contents: ArchiveContents
    try {
      contents = await passThrough(
        unpacked,
        {
          async entry(entry, body) {
            await writer.write(encodeHeader(entry))
            if (entry.size === 0) return
            for await (const chunk of body) await writer.write(chunk)
            await writer.pad()
          },
        },
        {
          tree,
          additions,
          limits: { ...DEFAULT_LIMITS, ...options.limits },
          drop: options.drop,
          latest: sourceDateEpoch,
          onProgress: options.onProgress,
        },
      )
      await writer.end()
    } catch (error) {
      // A broken pipe says nothing; why the packer ended does.
      if (writer.broken) await file.packed()
      throw error
    }
    return { ...contents, ...(await file.keep(signal)) }
  })
}
