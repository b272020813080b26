import { randomUUID } from 'node:crypto'
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ifThere } from '../core/if-there.ts'
import { makeFolder } from '../core/make-folder.ts'

/**
 * A download that is not complete yet. Only one process may append to it: a process takes it by renaming it
 * to a name that carries its own process ID, and gives it back by renaming it again. What a killed process
 * had taken is found by its dead process ID. (Processes of one machine; a cache on a network share works,
 * but then a download may be taken from under a running one and starts over.)
 */
export class PartialDownload {
  /** the file to append to */
  readonly path: string
  readonly #shared: string

  private constructor(path: string, shared: string) {
    this.path = path
    this.#shared = shared
  }

  /** Takes what there is of a download, or a name for a new one. */
  static async take(cacheDir: string, digest: string): Promise<PartialDownload> {
    const folder = join(cacheDir, 'partial')
    await makeFolder(folder)
    const name = `${digest.replace(':', '-')}.part`
    const shared = join(folder, name)
    const own = `${shared}.${process.pid}.${randomUUID()}`
    for (const candidate of [name, ...(await abandoned(folder, name))]) {
      try {
        await rename(join(folder, candidate), own)
        break
      } catch (error) {
        // Not there, or another process was quicker.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      }
    }
    return new PartialDownload(own, shared)
  }

  /** Lets the next one go on from here. */
  async giveBack(): Promise<void> {
    await ifThere(rename(this.path, this.#shared))
  }

  async discard(): Promise<void> {
    await rm(this.path, { force: true })
    await rm(this.#validatorPath, { force: true })
  }

  /** What the server called the version that these bytes are of (a strong ETag or a date), for If-Range. */
  async validator(): Promise<string | undefined> {
    return ifThere(readFile(this.#validatorPath, 'utf8'))
  }

  async setValidator(value: string | undefined): Promise<void> {
    if (value === undefined) await rm(this.#validatorPath, { force: true })
    else await writeFile(this.#validatorPath, value)
  }

  get #validatorPath(): string {
    return `${this.#shared}.validator`
  }
}

async function abandoned(folder: string, name: string): Promise<string[]> {
  return (await readdir(folder)).filter((entry) => {
    const pid = entry.startsWith(`${name}.`) && /^\.(\d+)\.[\w-]{36}$/.exec(entry.slice(name.length))?.[1]
    return pid && !isAlive(Number(pid))
  })
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
