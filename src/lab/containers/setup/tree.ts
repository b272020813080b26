import { constants } from 'node:fs'
import { chmod, chown, lstat, mkdir, open, readlink, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'

/** As many as Linux follows. */
const LINKS = 40

/** Bytes of the longest file that is read: those that are of interest have a few. */
const LONGEST = 1 << 20

/**
 * A container's files, seen by the node. Whoever made the archive may have put links into it that lead out of the
 * tree (or FIFOs, or devices); here they lead nowhere else than they would inside, where `/` is the tree's topmost
 * folder. The container does not run, so nothing changes between looking and writing.
 */
export class Tree {
  readonly #root: string
  readonly #owner: number

  /** `owner`: the node's uid and gid for the container's root */
  constructor(root: string, owner: number) {
    this.#root = root
    this.#owner = owner
  }

  /** undefined where there is no such file, or where it is not an ordinary one */
  async read(path: string): Promise<string | undefined> {
    const real = await this.#resolve(path)
    const found = await lstat(real).catch(() => undefined)
    if (!found?.isFile() || found.size > LONGEST) return undefined
    await using file = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW)
    return file.readFile('utf8')
  }

  /** The first bytes of a file of any length; undefined as for `read`. */
  async head(path: string, bytes: number): Promise<Buffer | undefined> {
    const real = await this.#resolve(path)
    if (!(await lstat(real).catch(() => undefined))?.isFile()) return undefined
    await using file = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0)
    return buffer.subarray(0, bytesRead)
  }

  /**
   * Replaces a file, at once, and makes its folders. What was a link becomes a file; an ordinary one keeps its owner
   * and its permissions unless `mode` says otherwise.
   */
  async write(path: string, content: string, mode?: number): Promise<void> {
    const folder = await this.makeFolder(dirname(path))
    const target = join(folder, basename(path))
    const before = await lstat(target).catch(() => undefined)
    const kept = before?.isFile() ? before : undefined
    const temporary = join(folder, `.${basename(path)}.new`)
    await rm(temporary, { force: true, recursive: true })
    {
      await using file = await open(temporary, 'wx', 0o600)
      await file.writeFile(content)
      await file.chown(kept?.uid ?? this.#owner, kept?.gid ?? this.#owner)
      await file.chmod(mode ?? (kept ? kept.mode & 0o7777 : 0o644))
    }
    if (before?.isDirectory()) await rm(target, { recursive: true })
    await rename(temporary, target)
  }

  /** Where a path leads inside; of what does not exist, the path that it would have. */
  async target(path: string): Promise<string> {
    return `/${relative(this.#root, await this.#resolve(path))}`
  }

  async exists(path: string): Promise<boolean> {
    const real = await this.#resolve(path)
    return (await lstat(real).catch(() => undefined)) !== undefined
  }

  /** Removes a file, or the link that is in its place. */
  async remove(path: string): Promise<void> {
    await rm(join(await this.#resolve(dirname(path)), basename(path)), { force: true })
  }

  /** Makes a folder and those above it; those that are there stay as they are. @returns where it is for the node */
  async makeFolder(path: string, mode = 0o755): Promise<string> {
    const real = await this.#resolve(path)
    await this.#make(real, mode)
    return real
  }

  async #make(real: string, mode: number): Promise<void> {
    if (real === this.#root || (await lstat(real).catch(() => undefined))?.isDirectory()) return
    await this.#make(dirname(real), 0o755)
    await mkdir(real, { mode })
    await chmod(real, mode)
    await chown(real, this.#owner, this.#owner)
  }

  /** The node's path, with no link in it but that to the root; of what does not exist, the path that it would have. */
  async #resolve(path: string): Promise<string> {
    const ahead = path.split('/')
    let way: string[] = []
    for (let links = 0; ahead.length > 0; ) {
      const name = ahead.shift()
      if (name === undefined || name === '' || name === '.') continue
      if (name === '..') {
        way.pop()
        continue
      }
      const here = join(this.#root, ...way, name)
      if (!(await lstat(here).catch(() => undefined))?.isSymbolicLink()) {
        way.push(name)
        continue
      }
      if (++links > LINKS) throw new Error(`${path}: too many levels of symbolic links`)
      const target = await readlink(here)
      if (target.startsWith('/')) way = []
      ahead.unshift(...target.split('/'))
    }
    return join(this.#root, ...way)
  }
}
