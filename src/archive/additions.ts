import type { Entry } from './entry.ts'
import { fromText, normalisePath, parentOf, quoteName } from './names.ts'
import { Refusal } from './refusal.ts'
import type { Tree } from './tree.ts'

/**
 * Something that is put into an archive. Directories above it that are missing are made (0755, root). What is there
 * already is replaced; a directory keeps what is in it. Symlinks above it are followed inside the tree, one at its own
 * place is replaced.
 */
export type ArchiveFile = {
  /** from the root, with or without a slash before it */
  path: string
  /** permissions; 0644 for a file, 0755 for a directory unless given */
  mode?: number
  /** 0 unless given */
  uid?: number
  gid?: number
  /** seconds since 1970; the archive's `sourceDateEpoch`, else 0, unless given */
  mtime?: number
} & (
  | { type: 'file'; content: string | Uint8Array }
  | { type: 'directory' }
  | { type: 'symlink'; target: string }
)

interface Addition {
  entry: Entry
  content: Uint8Array
}

const NOTHING = new Uint8Array()

/** What is put into an archive while it goes by. What it replaces is left out on the way, the new follows at the end. */
export class Additions {
  readonly #additions: readonly Addition[]
  readonly #tree: Tree
  /** where each goes, as far as the symlinks that came so far tell */
  #places: Map<string, Addition>

  constructor(files: readonly ArchiveFile[], tree: Tree, mtime: number) {
    this.#tree = tree
    this.#additions = files.map((file) => toAddition(file, mtime))
    this.#places = this.#locate()
  }

  /** A symlink has come: it may lie above something. */
  onSymlink(path: string): void {
    if (this.#additions.some(({ entry }) => entry.path.startsWith(`${path}/`) || this.#passes(entry, path))) {
      this.#places = this.#locate()
    }
  }

  /** Whether the entry at a place gives way. @throws Refusal if one of the two is a directory and the other is not */
  replaces(path: string, kind: Entry['kind']): boolean {
    const addition = this.#places.get(path)
    if (!addition) return false
    const { entry } = addition
    if ((entry.kind === 'directory') !== (kind === 'directory')) {
      throw new Refusal(
        `the ${entry.kind} ${quoteName(entry.path)} that is to be added cannot replace a ${kind}`,
      )
    }
    return true
  }

  /**
   * All of it, in the order of its paths, with the directories that are missing; to be called at the end.
   * @throws Refusal if something has no directory to be in, or its place was found out too late
   */
  *remaining(): Generator<{ entry: Entry; content: Uint8Array }> {
    const places = [...this.#locate()].sort(([a], [b]) => (a < b ? -1 : 1))
    for (const [path, { entry, content }] of places) {
      const there = this.#tree.at(path)
      const directory = entry.kind === 'directory'
      if (
        there !== undefined &&
        there !== 'gone' &&
        !(directory && (there === 'implied' || there === 'directory'))
      ) {
        throw new Refusal(
          `${quoteName(entry.path)} is to be added, and means ${quoteName(path)}; that had gone by when the symlink between them came. Add it as ${quoteName(path)}`,
        )
      }
      yield* this.#parents(path, entry.mtime)
      const placed = { ...entry, path }
      if (there === 'gone') this.#tree.restore(path, placed)
      else this.#tree.place(placed, () => 'keep')
      yield { entry: placed, content }
    }
  }

  *#parents(path: string, mtime: number): Generator<{ entry: Entry; content: Uint8Array }> {
    const missing: string[] = []
    for (let at = parentOf(path); at !== ''; at = parentOf(at)) {
      const kind = this.#tree.at(at)
      if (kind === 'directory' || kind === 'implied') break
      missing.push(at)
    }
    for (const parent of missing.reverse()) {
      const entry = { ...emptyEntry(parent, 'directory', mtime), mode: 0o755 }
      this.#tree.restore(parent, entry)
      yield { entry, content: NOTHING }
    }
  }

  #passes(entry: Entry, path: string): boolean {
    return this.#places
      .entries()
      .some(([place, other]) => other.entry === entry && place.startsWith(`${path}/`))
  }

  #locate(): Map<string, Addition> {
    const places = new Map<string, Addition>()
    for (const addition of this.#additions) {
      const { path } = this.#tree.locate(addition.entry.path)
      const other = places.get(path)
      if (other) {
        throw new Refusal(
          `${quoteName(other.entry.path)} and ${quoteName(addition.entry.path)} are to be added to the same place, ${quoteName(path)}`,
        )
      }
      places.set(path, addition)
    }
    return places
  }
}

function toAddition(file: ArchiveFile, mtime: number): Addition {
  const place = normalisePath(fromText(file.path.replace(/^\/+/, '')))
  if ('refused' in place || place.path === '') {
    throw new Refusal(
      `${JSON.stringify(file.path)} cannot be added: ${'refused' in place ? place.refused : 'it is the root'}`,
    )
  }
  const content = file.type === 'file' ? Buffer.from(file.content as string) : NOTHING
  const entry: Entry = {
    ...emptyEntry(place.path, file.type, file.mtime ?? mtime),
    mode: file.mode ?? (file.type === 'file' ? 0o644 : file.type === 'symlink' ? 0o777 : 0o755),
    uid: file.uid ?? 0,
    gid: file.gid ?? 0,
    size: content.length,
    target: file.type === 'symlink' ? fromText(file.target) : '',
  }
  return { entry, content }
}

function emptyEntry(path: string, kind: Entry['kind'], mtime: number): Entry {
  return { path, name: path, kind, mode: 0, uid: 0, gid: 0, mtime, size: 0, target: '', attributes: [] }
}
