import { rename, rm, truncate } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { execa } from 'execa'
import { PARTIAL } from './qemu-img.ts'

/**
 * Copies a raw file with its holes; where the file system can share blocks (btrfs, XFS), nothing is copied at all.
 * `size`: bytes of the copy, where it is to be longer.
 */
export async function copyRoot(
  source: string,
  target: string,
  { size, signal }: { size?: number; signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const partial = join(dirname(target), `${PARTIAL}${basename(target).replace(PARTIAL, '')}`)
  try {
    await execa('cp', ['--reflink=auto', '--sparse=always', '--', source, partial], {
      ...(signal && { cancelSignal: signal }),
    })
    // cp keeps the read-only mode of a base volume.
    await execa('chmod', ['0644', partial])
    if (size !== undefined) await truncate(partial, size)
    if (partial !== target) await rename(partial, target)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
}
