import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '../core/make-folder.ts'

/** Milliseconds after which a folder that nobody has finished with is taken for that of a killed process: a day. */
const ABANDONED_AFTER = 24 * 3600 * 1000

/**
 * A folder of its own in the cache while something is made in it, on the same file system as what it will be. It goes
 * with the end of the work; those that a killed process has left go here too.
 * @param kind begins the folder's name
 */
export async function withWorkFolder<T>(
  cacheDir: string,
  kind: string,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  await makeFolder(cacheDir)
  await removeAbandoned(cacheDir, kind)
  const folder = await mkdtemp(join(cacheDir, `${kind}-`))
  try {
    return await work(folder)
  } finally {
    await remove(folder)
  }
}

async function removeAbandoned(cacheDir: string, kind: string): Promise<void> {
  const pattern = new RegExp(`^${kind}-\\w{6}$`)
  for (const name of await readdir(cacheDir)) {
    if (!pattern.test(name)) continue
    const found = await stat(join(cacheDir, name)).catch(() => undefined)
    if (found?.isDirectory() && Date.now() - found.mtimeMs > ABANDONED_AFTER)
      await remove(join(cacheDir, name))
  }
}

/** Retries: what was just killed may still be writing. */
async function remove(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 })
}
