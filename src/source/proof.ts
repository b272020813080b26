import { constants } from 'node:fs'
import { open, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { writeDurably } from '../core/durable-file.ts'
import { ifThere } from '../core/if-there.ts'
import { makeFolder } from '../core/make-folder.ts'

/**
 * What spares reading a large file once more: `checked/<name>.json` in the cache says as what the file was seen when its
 * bytes were hashed. The kernel sets ctime at each change of the file, and lets nobody choose it.
 */

/** Owner, inode, size and times in nanoseconds; undefined where there is no file. */
export async function stampOf(path: string): Promise<{ stamp: string; size: number } | undefined> {
  const found = await ifThere(stat(path, { bigint: true }))
  if (!found?.isFile()) return undefined
  const { uid, ino, size, mtimeNs, ctimeNs } = found
  return {
    stamp: [uid, ino, size, mtimeNs, ctimeNs].join(':'),
    size: Number(size),
  }
}

/**
 * Whether this user has written down that the bytes seen so have this digest. What others could have written, or what
 * cannot be read, proves nothing.
 */
export async function isProven(
  cacheDir: string,
  file: { path: string; digest: string; stamp: string },
): Promise<boolean> {
  try {
    await using proof = await open(proofPath(cacheDir, file.path), constants.O_RDONLY | constants.O_NOFOLLOW)
    const { uid, mode } = await proof.stat()
    if (uid !== process.geteuid?.() || (mode & 0o077) !== 0) return false
    const { digest, stamp } = JSON.parse(await proof.readFile('utf8')) as { digest?: string; stamp?: string }
    return digest === file.digest && stamp === file.stamp
  } catch {
    return false
  }
}

/** Where it cannot be written down, the file is hashed again the next time. */
export async function writeProof(
  cacheDir: string,
  { path, digest, stamp }: { path: string; digest: string; stamp: string },
): Promise<void> {
  try {
    await makeFolder(join(cacheDir, 'checked'))
    await writeDurably(proofPath(cacheDir, path), `${JSON.stringify({ digest, stamp })}\n`, 0o600)
  } catch {
    // Another user's cache, or one on a disk that is full.
  }
}

export async function removeProof(cacheDir: string, path: string): Promise<void> {
  await rm(proofPath(cacheDir, path), { force: true })
}

function proofPath(cacheDir: string, path: string): string {
  return join(cacheDir, 'checked', `${basename(path)}.json`)
}
