import { dirname } from 'node:path'
import { execa } from 'execa'
import { ImagebuildError } from './errors.ts'
import { makeFolder } from './make-folder.ts'

/**
 * Holds a file's lock until disposed of. The lock is the kernel's (flock(1), from util-linux, holds it for us), so
 * it goes with the process that has it, however that ends.
 * @throws ImagebuildError `prerequisite_missing` without flock
 */
export async function lock(path: string, signal?: AbortSignal): Promise<AsyncDisposable> {
  await makeFolder(dirname(path), 0o700)
  // `cat` ends when our end of its input closes; the first byte from it says that the lock is held.
  const holder = execa('flock', ['-x', path, 'cat'], {
    buffer: false,
    reject: false,
    ...(signal && { cancelSignal: signal }),
  })
  holder.stdin.on('error', () => undefined)
  holder.stdin.write('\n')
  const held = new Promise<'held'>((resolve) => holder.stdout.once('data', () => resolve('held')))
  const outcome = await Promise.race([held, holder])
  if (outcome !== 'held') {
    signal?.throwIfAborted()
    if (outcome.code === 'ENOENT') {
      throw new ImagebuildError({
        code: 'prerequisite_missing',
        what: `${path} could not be locked`,
        why: 'flock is not installed',
        next: 'apt-get install util-linux',
      })
    }
    throw new Error(`${path} could not be locked: ${outcome.shortMessage ?? 'flock ended'}`)
  }
  return {
    async [Symbol.asyncDispose]() {
      holder.stdin.end()
      await holder
    },
  }
}
