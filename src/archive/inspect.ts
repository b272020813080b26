import type { ArchiveContents } from './contents.ts'
import { explain } from './explain.ts'
import { type ArchiveLimits, DEFAULT_LIMITS } from './limits.ts'
import { passThrough } from './pass.ts'
import type { Origin } from './refusal.ts'
import { Tree } from './tree.ts'
import { type ArchiveInput, openArchive } from './unpacked.ts'

export interface InspectOptions {
  /** tar, bare or packed with gzip, xz or zstd */
  input: ArchiveInput
  origin?: Partial<Origin>
  limits?: Partial<ArchiveLimits>
  signal: AbortSignal
  /** bytes of the unpacked archive so far */
  onProgress?: (uncompressed: number) => void
}

/**
 * What is in the archive of a root file system: one pass over it, with the same checks as `rewriteArchive`.
 * @throws ImagebuildError as `rewriteArchive` does
 */
export async function inspectArchive(options: InspectOptions): Promise<ArchiveContents> {
  return explain(options, async () => {
    await using unpacked = await openArchive(options.input, options.signal)
    return await passThrough(
      unpacked,
      {
        async entry({ size }, body) {
          if (size > 0) for await (const _ of body);
        },
      },
      {
        tree: new Tree(),
        limits: { ...DEFAULT_LIMITS, ...options.limits },
        onProgress: options.onProgress,
      },
    )
  })
}
