import { basename } from 'node:path'
import { ImagebuildError } from '../core/errors.ts'
import { PackerError } from './packer-process.ts'
import { type Origin, Refusal } from './refusal.ts'
import type { ArchiveInput } from './unpacked.ts'

interface About {
  input: ArchiveInput
  origin?: Partial<Origin> | undefined
  signal: AbortSignal
}

/** Does work on an archive; what goes wrong is told as a person should hear it, the signal's reason first of all. */
export async function explain<T>({ input, origin, signal }: About, work: () => Promise<T>): Promise<T> {
  const from: Origin = {
    name: typeof input === 'string' ? `the archive ${basename(input)}` : 'the archive',
    blame: 'definition_invalid',
    ...origin,
  }
  try {
    signal.throwIfAborted()
    return await work()
  } catch (error) {
    signal.throwIfAborted()
    const cause = error instanceof SuppressedError ? error.error : error
    if (cause instanceof Refusal) throw cause.at(from)
    if (cause instanceof PackerError) {
      throw new ImagebuildError({
        code: from.blame,
        what: `${from.name} cannot be unpacked`,
        why: cause.message,
        next: 'compare its checksum with that of its source',
        cause,
      })
    }
    throw cause
  }
}
