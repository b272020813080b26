import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { lock } from '../core/lock.ts'
import { makeFolder } from '../core/make-folder.ts'
import type { SourceContext } from '../source/context.ts'

/**
 * One run at a time for what changes in the cache: while it holds this, no other one removes what it reads, or writes down
 * something older than what it has seen.
 * @param of what it is about: a suite, an address
 */
export async function cacheTurn(
  of: string,
  { cacheDir, signal }: Pick<SourceContext, 'cacheDir' | 'signal'>,
): Promise<AsyncDisposable> {
  const folder = join(cacheDir, 'conditional')
  await makeFolder(folder)
  return lock(join(folder, `${createHash('sha256').update(of).digest('hex')}.lock`), signal)
}
