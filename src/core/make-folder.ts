import { chmod, mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes a folder that a person has chosen, and those above it, where they are not there yet: with this mode, whatever the
 * umask. Node's own recursive mkdir never ends where a file system refuses every new folder with ENOENT, as /proc does.
 * @throws what mkdir(2) says, with `code`, `path` and `syscall`
 */
export async function makeFolder(path: string, mode = 0o755): Promise<void> {
  try {
    await makeOne(path, mode)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const isFolder = async (one: string) => (await stat(one).catch(() => undefined))?.isDirectory() === true
    if (code === 'EEXIST' && (await isFolder(path))) return
    if (code !== 'ENOENT') throw error
    if (!(await isFolder(dirname(path)))) await makeFolder(dirname(path), mode)
    // Also where the one above is there: somebody else may have made it since, or this one too.
    await makeOne(path, mode).catch(async (again: NodeJS.ErrnoException) => {
      if (again.code !== 'EEXIST' || !(await isFolder(path))) throw again
    })
  }
}

/** mkdir(2) takes the bits of the umask away. What it adds, such as the group of a folder that people share, stays. */
async function makeOne(path: string, mode: number): Promise<void> {
  await mkdir(path, { mode })
  const { mode: bits } = await stat(path)
  if ((bits & mode) !== mode) await chmod(path, (bits & 0o7777) | mode)
}
