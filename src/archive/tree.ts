import type { Entry } from './entry.ts'
import { LONGEST_PATH, parentOf, quoteName } from './names.ts'
import { Refusal } from './refusal.ts'

/** `implied`: a directory that has files but (so far) no entry; `gone`: an entry that was left out. */
type Seen = 'file' | 'directory' | 'implied' | 'symlink' | 'fifo' | 'gone'

/** What Linux follows before it says ELOOP. */
const MOST_LINKS = 40

export interface Found {
  /** without symlinks in it; what is missing is taken to be a directory */
  path: string
  kind: Seen | undefined
}

/**
 * The names of an archive as it goes by: what is where, and where symlinks lead inside the tree. All paths are in
 * normal form, bytes as latin1. Entries are kept under the path that has no symlink in it.
 */
export class Tree {
  readonly #seen = new Map<string, Seen>([['', 'implied']])
  readonly #targets = new Map<string, string>()

  /**
   * Puts an entry into the tree and gives the path that it has there: below a symlink (`bin` → `usr/bin`), an entry
   * moves to where that leads, so that nobody who unpacks writes through it.
   * @throws Refusal if it is there already, has no directory to be in, or is a hard link to no file
   */
  place(
    entry: Entry,
    decide: (path: string) => 'keep' | 'drop' | 'replace',
  ): { path: string; target: string; left: boolean } {
    const path = this.#canonical(entry.path)
    this.#checkAgain(this.#seen.get(path), entry.kind)
    const inGone = this.#seen.get(parentOf(path)) === 'gone'
    const fate = entry.kind === 'device' || inGone ? 'drop' : decide(path)
    if (fate !== 'keep') {
      // What is in a directory that is dropped goes with it, what is in one that is replaced stays. The root stays.
      const stays = path === '' || (fate === 'replace' && entry.kind === 'directory')
      this.#seen.set(path, stays ? 'implied' : 'gone')
      return { path, target: '', left: true }
    }
    const target = entry.kind === 'hardlink' ? this.#hardlinkTarget(entry.target) : entry.target
    this.#seen.set(path, entry.kind === 'hardlink' ? 'file' : (entry.kind as Seen))
    if (entry.kind === 'symlink') this.#targets.set(path, entry.target)
    return { path, target, left: false }
  }

  /** Puts something at a place whose entry was left out, or that is missing. */
  restore(path: string, entry: Entry): void {
    this.#seen.set(path, entry.kind as Seen)
    if (entry.kind === 'symlink') this.#targets.set(path, entry.target)
  }

  /** What a path leads to inside the tree, as a process in the container sees it: `..` of the root is the root. */
  find(path: string): Found {
    return this.#walk(path, { follow: true, strict: false })
  }

  /** The same without following what the path itself is. @throws Refusal where it leaves the tree or is below a file */
  locate(path: string): Found {
    return this.#walk(path, { follow: false, strict: true })
  }

  at(path: string): Seen | undefined {
    return this.#seen.get(path)
  }

  #checkAgain(before: Seen | undefined, kind: Entry['kind']): void {
    const directory = kind === 'directory'
    if (before === undefined || before === 'gone') return
    if (directory && (before === 'directory' || before === 'implied')) return
    const now = kind === 'hardlink' ? 'file' : kind
    throw new Refusal(
      before === now
        ? 'it is in the archive twice'
        : `it is a ${now} here, and was a ${describe(before)} before`,
    )
  }

  /** Its path without symlinks among the parents; directories on the way that have no entry are noted. */
  #canonical(path: string): string {
    const parent = parentOf(path)
    const known = this.#seen.get(parent)
    if (known === 'directory' || known === 'implied' || known === 'gone') return path
    const { path: real, kind } = this.#walk(parent, { follow: true, strict: true })
    if (kind !== undefined && kind !== 'directory' && kind !== 'implied' && kind !== 'gone') {
      throw new Refusal(`it is below ${quoteName(real)}, which is a ${describe(kind)}`)
    }
    if (kind === undefined && real !== parent && this.#throughLink(parent)) {
      throw new Refusal(
        `it is below a symlink that leads to ${quoteName(real)}, and the archive has no such directory so far`,
      )
    }
    for (let at = real; this.#seen.get(at) === undefined; at = parentOf(at)) this.#seen.set(at, 'implied')
    const name = path.slice(path.lastIndexOf('/') + 1)
    const moved = real === '' ? name : `${real}/${name}`
    if (moved.length > LONGEST_PATH)
      throw new Refusal('it is below a symlink, and its path becomes too long there')
    return moved
  }

  /** Whether the last of a path's parents that exist is found through a symlink only. */
  #throughLink(path: string): boolean {
    for (let at = path; at !== ''; at = parentOf(at)) if (this.#seen.get(at) === 'symlink') return true
    return false
  }

  #hardlinkTarget(target: string): string {
    const { path, kind } = this.locate(target)
    const shown = quoteName(target)
    if (kind === 'gone') throw new Refusal(`it is a hard link to ${shown}, which is left out or replaced`)
    if (kind === undefined)
      throw new Refusal(`it is a hard link to ${shown}, which is not in the archive before it`)
    if (kind !== 'file') throw new Refusal(`it is a hard link to ${shown}, which is a ${describe(kind)}`)
    return path
  }

  #walk(path: string, how: { follow: boolean; strict: boolean }): Found {
    const rest = path.split('/').reverse()
    let at = ''
    let links = 0
    while (rest.length > 0) {
      const part = rest.pop() as string
      if (part === '' || part === '.') continue
      if (part === '..') {
        if (at === '' && how.strict)
          throw new Refusal(`${quoteName(path)} leads out of the tree through a symlink`)
        at = parentOf(at)
        continue
      }
      const here = at === '' ? part : `${at}/${part}`
      const kind = this.#seen.get(here)
      if (kind === 'symlink' && (how.follow || rest.length > 0)) {
        if (++links > MOST_LINKS) {
          if (how.strict) throw new Refusal(`${quoteName(path)} leads through symlinks in a circle`)
          return { path: here, kind: undefined }
        }
        const target = this.#targets.get(here) as string
        if (target.startsWith('/')) at = ''
        rest.push(...target.split('/').reverse())
        continue
      }
      if (rest.length > 0 && (kind === 'file' || kind === 'fifo')) {
        if (how.strict) throw new Refusal(`it is below ${quoteName(here)}, which is a ${describe(kind)}`)
        return { path: here, kind: undefined }
      }
      at = here
    }
    return { path: at, kind: this.#seen.get(at) }
  }
}

function describe(kind: Seen): string {
  return kind === 'implied' ? 'directory' : kind
}
