import type { Additions } from './additions.ts'
import { type ArchiveContents, ContentsNote } from './contents.ts'
import type { Entry } from './entry.ts'
import type { ArchiveLimits } from './limits.ts'
import { toText } from './names.ts'
import { brokenFormat, readEntries } from './read-entries.ts'
import { Refusal } from './refusal.ts'
import type { Tree } from './tree.ts'
import type { Unpacked } from './unpacked.ts'

/** Where entries go; bodies must be read to their end, or not at all. */
export interface Destination {
  entry(entry: Entry, body: AsyncIterable<Uint8Array>): Promise<void>
}

export interface Pass {
  tree: Tree
  limits: ArchiveLimits
  additions?: Additions | undefined
  /** asked for the path of every entry, without a slash before it; what is in a directory that goes, goes too */
  drop?: ((path: string) => boolean) | undefined
  /** later times become this one; seconds since 1970 */
  latest?: number | undefined
  /** bytes of the unpacked archive so far */
  onProgress?: ((uncompressed: number) => void) | undefined
}

/**
 * Sends an archive entry by entry to its destination, each checked and in its place in the tree, in the order in which
 * they come; then what is added, by path.
 * @throws Refusal for what is hostile or broken
 */
export async function passThrough(unpacked: Unpacked, to: Destination, pass: Pass): Promise<ArchiveContents> {
  const note = new ContentsNote()
  const { tree, additions } = pass
  let uncompressed = 0
  const onProgress = (bytes: number) => {
    uncompressed = bytes
    pass.onProgress?.(bytes)
  }
  for await (const { entry: read, body } of readEntries(unpacked, pass.limits, onProgress)) {
    const entry = placed(read, pass)
    if (entry === undefined) {
      if (read.kind === 'device') note.device()
      continue
    }
    note.entry(entry)
    try {
      await to.entry(entry, note.wants(entry) ? noting(entry.path, body, note) : body)
    } catch (error) {
      throw brokenFormat(error, read.name)
    }
  }
  for (const { entry, content } of additions?.remaining() ?? []) {
    note.added(entry.path, content)
    await to.entry(entry, once(content))
  }
  if (note.empty) throw new Refusal('there is nothing in it')
  return note.contents(tree, uncompressed, unpacked.packing)
}

/** The entry as it goes on, or undefined if it is left out. */
function placed(entry: Entry, { tree, additions, drop, latest }: Pass): Entry | undefined {
  try {
    const { path, target, left } = tree.place(entry, (at) => {
      if (drop?.(toText(at))) return 'drop'
      return additions?.replaces(at, entry.kind) ? 'replace' : 'keep'
    })
    if (entry.kind === 'device' && !path.startsWith('dev/')) {
      throw new Refusal('it is a device node, and not below dev/, which Proxmox leaves out')
    }
    if (left) return undefined
    if (entry.kind === 'symlink') additions?.onSymlink(path)
    const mtime = latest === undefined ? entry.mtime : Math.min(entry.mtime, latest)
    return { ...entry, path, target, mtime }
  } catch (error) {
    throw error instanceof Refusal ? new Refusal(error.message, entry.name, { cause: error }) : error
  }
}

async function* noting(
  path: string,
  body: AsyncIterable<Uint8Array>,
  note: ContentsNote,
): AsyncGenerator<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) {
    chunks.push(chunk)
    yield chunk
  }
  note.text(path, Buffer.concat(chunks))
}

async function* once(content: Uint8Array): AsyncGenerator<Uint8Array> {
  yield content
}
