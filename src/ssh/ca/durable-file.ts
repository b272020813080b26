import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Files that are there whole or not at all, also after a power cut. */

export async function writeDurably(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const unfinished = `${path}.${process.pid}-${Math.random().toString(36).slice(2)}.new`
  const file = await open(unfinished, 'wx', mode)
  try {
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await renameDurably(unfinished, path)
  } catch (error) {
    // It may hold a private key.
    await rm(unfinished, { force: true })
    throw error
  }
}

/** A rename that has reached the disk. What is renamed must be there already: see `reachDisk`. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to)
  await reachDisk(dirname(to))
}

/** fsync(2) of a file or folder. */
export async function reachDisk(path: string): Promise<void> {
  const file = await open(path, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}
