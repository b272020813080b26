import { randomUUID } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Files that are there whole or not at all, also after a power cut: written under another name, brought to the disk,
 * renamed, and then their folder too. Their mode is the one that is given, whatever the umask.
 */

/** Replaces what is at `path`. The folder must be there. */
export async function writeDurably(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const unfinished = `${path}.${process.pid}-${randomUUID()}.new`
  try {
    {
      await using file = await open(unfinished, 'wx', mode)
      await file.writeFile(content)
      await file.chmod(mode)
      await file.sync()
    }
    await renameDurably(unfinished, path)
  } catch (error) {
    // It may hold a private key.
    await rm(unfinished, { force: true })
    throw error
  }
}

/** Gives a finished file its mode and its place, on the same file system. */
export async function placeDurably(from: string, to: string, mode: number): Promise<void> {
  {
    await using file = await open(from, 'r')
    await file.chmod(mode)
    await file.sync()
  }
  await renameDurably(from, to)
}

/** A rename that has reached the disk. What is renamed must be there already: see `reachDisk`. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to)
  await reachDisk(dirname(to)).catch((error: NodeJS.ErrnoException) => {
    // Some file systems of other machines know no fsync of a folder.
    if (error.code !== 'EINVAL' && error.code !== 'ENOTSUP') throw error
  })
}

/** fsync(2) of a file or folder. */
export async function reachDisk(path: string): Promise<void> {
  await using file = await open(path, 'r')
  await file.sync()
}
