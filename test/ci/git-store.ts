import { createHash } from 'node:crypto'

export interface Commit {
  sha: string
  tree: string
  parents: string[]
  message: string
  author?: unknown
  committer?: unknown
}

interface Entry {
  type: 'blob' | 'tree'
  sha: string
}

/** A repository as a forge has it: blobs, trees, commits, branches. Blobs have the names that git gives them. */
export class GitStore {
  readonly blobs = new Map<string, string>()
  readonly trees = new Map<string, Map<string, Entry>>()
  readonly commits = new Map<string, Commit>()
  readonly branches = new Map<string, string>()

  /** A commit upon a branch, as somebody pushes it. */
  push(branch: string, files: Record<string, string | undefined>, message = 'somebody’s commit'): string {
    const parent = this.branches.get(branch)
    const before = parent === undefined ? {} : this.filesAt(parent)
    const after = Object.entries({ ...before, ...files }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    )
    const tree = this.writeTree(Object.fromEntries(after.map(([path, text]) => [path, this.writeBlob(text)])))
    const sha = this.commit({ tree, parents: parent === undefined ? [] : [parent], message })
    this.branches.set(branch, sha)
    return sha
  }

  /** path → text */
  filesAt(commit: string): Record<string, string> {
    const tree = this.commits.get(commit)?.tree ?? ''
    return Object.fromEntries(
      Object.entries(this.flat(tree)).map(([path, sha]) => [path, this.blobs.get(sha) ?? '']),
    )
  }

  writeBlob(text: string): string {
    const bytes = Buffer.from(text)
    const sha = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
    this.blobs.set(sha, text)
    return sha
  }

  /** @param files path → blob */
  writeTree(files: Record<string, string>): string {
    const entries = new Map<string, Entry>()
    const folders = new Map<string, Record<string, string>>()
    for (const [path, sha] of Object.entries(files).sort()) {
      const [first = '', ...rest] = path.split('/')
      if (rest.length === 0) entries.set(first, { type: 'blob', sha })
      else folders.set(first, { ...folders.get(first), [rest.join('/')]: sha })
    }
    for (const [name, inside] of folders) entries.set(name, { type: 'tree', sha: this.writeTree(inside) })
    const sha = named('tree', [...entries])
    this.trees.set(sha, entries)
    return sha
  }

  /** path → blob, of all below a tree */
  flat(tree: string, prefix = ''): Record<string, string> {
    return Object.fromEntries(
      [...(this.trees.get(tree) ?? [])].flatMap(([name, { type, sha }]) =>
        type === 'blob' ? [[prefix + name, sha]] : Object.entries(this.flat(sha, `${prefix}${name}/`)),
      ),
    )
  }

  commit(commit: Omit<Commit, 'sha'>): string {
    const sha = named('commit', [commit, this.commits.size])
    this.commits.set(sha, { sha, ...commit })
    return sha
  }

  isAncestor(ancestor: string, of: string): boolean {
    return (
      ancestor === of || (this.commits.get(of)?.parents ?? []).some((one) => this.isAncestor(ancestor, one))
    )
  }

  mergeBase(a: string, b: string): string {
    if (this.isAncestor(a, b)) return a
    const [parent = ''] = this.commits.get(a)?.parents ?? []
    return parent === '' ? '' : this.mergeBase(parent, b)
  }
}

function named(kind: string, content: unknown): string {
  return createHash('sha1')
    .update(JSON.stringify([kind, content]))
    .digest('hex')
}
