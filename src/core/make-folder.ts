import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes a folder that a person has chosen, and those above it, where they are not there yet. Node's own recursive mkdir
 * never ends where a file system lets nobody make anything and says ENOENT, as /proc does.
 * @throws what mkdir(2) says, with `code`, `path` and `syscall`
 */
export async function makeFolder(path: string, mode = 0o777): Promise<void> {
  try {
    await mkdir(path, { mode })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const isFolder = async (one: string) => (await stat(one).catch(() => undefined))?.isDirectory() === true
    if (code === 'EEXIST' && (await isFolder(path))) return
    if (code !== 'ENOENT' || (await isFolder(dirname(path)))) throw error
    await makeFolder(dirname(path), mode)
    await mkdir(path, { mode }).catch(async (again: NodeJS.ErrnoException) => {
      // Somebody else may have been faster.
      if (again.code !== 'EEXIST' || !(await isFolder(path))) throw again
    })
  }
}
