import type { Change } from './forge.ts'
import { type ForgejoClient, ForgejoRefusal } from './forgejo-client.ts'
import { blobName, changeMessage, digestIn, foreignCommit, movedBase } from './own-branch.ts'

export interface Pull {
  number: number
  html_url: string
  title: string
  body: string
  merge_base: string
  head: { ref: string; repo_id: number }
  base: { ref: string; repo_id: number }
}

interface Branch {
  commit: { id: string }
}

interface Commit {
  sha: string
  commit: { message: string }
  parents: { sha: string }[]
}

interface Content {
  sha: string
  /** base64 */
  content: string | null
}

/** Of the contents API; `sha` is what the server must find there, else it refuses. */
type Operation =
  | { operation: 'create'; path: string; content: string }
  | { operation: 'update'; path: string; content: string; sha: string }
  | { operation: 'delete'; path: string; sha: string }

/** base64, or undefined for a file that must not be there */
type Wanted = Map<string, string | undefined>

interface Brought {
  commit: string
  written: boolean
  /** the branch is a new one, and so must its pull request be */
  isNew: boolean
}

/**
 * The branch with the change on it, in one commit. No version of Forgejo in use moves a branch by force, so a branch with an
 * open pull request gets a commit on top; first the base branch is merged into it, where that went on.
 * @returns 'pointless' where the base branch has all of it already
 */
export async function bringBranch(
  client: ForgejoClient,
  change: Change,
  pull: Pull | undefined,
): Promise<'pointless' | Brought> {
  if (change.files.size === 0) return 'pointless'
  const base = (await client.get<Branch>(branchPath(change.base))).commit.id
  const paths = [...change.files.keys()]
  const now = await contentsAt(client, paths, base)
  const differing = paths.filter((path) => now.get(path)?.sha !== nameOf(change.files.get(path), base))
  if (differing.length === 0) return 'pointless'
  if (change.from !== undefined && change.from !== base) {
    const then = await contentsAt(client, differing, change.from)
    const moved = differing.filter((path) => then.get(path)?.sha !== now.get(path)?.sha)
    if (moved.length > 0) throw movedBase(change.base, moved)
  }
  const present = await isOwnBranch(client, change.branch, pull?.base.ref ?? change.base)
  if (pull !== undefined) {
    const updated = await updateBranch(client, change, pull, base)
    if (updated !== 'conflict') return updated
    await closePull(client, pull, `It conflicts with ${change.base} by now: a new one takes its place.`)
  }
  if (present) await removeBranch(client, change.branch)
  const operations = operationsFor(wantedOf(change), now)
  return { ...(await commit(client, change, operations, change.base)), isNew: true }
}

async function updateBranch(
  client: ForgejoClient,
  change: Change,
  pull: Pull,
  base: string,
): Promise<Brought | 'conflict'> {
  if (pull.base.ref !== change.base) return 'conflict'
  const behind = pull.merge_base !== base
  if (behind && !(await mergeBase(client, pull))) return 'conflict'
  // What an earlier change wrote and this one does not is again what the base branch has.
  const written = await client.list<{ filename: string }>(`/pulls/${pull.number}/files`)
  const others = written.map(({ filename }) => filename).filter((path) => !change.files.has(path))
  const restored = await contentsAt(client, others, base)
  const wanted = wantedOf(change)
  for (const path of others) wanted.set(path, restored.get(path)?.content ?? undefined)
  const head = (await client.get<Branch>(branchPath(change.branch))).commit.id
  const there = await contentsAt(client, [...wanted.keys()], head)
  const operations = operationsFor(wanted, there)
  if (operations.length === 0) return { commit: head, written: behind, isNew: false }
  return { ...(await commit(client, change, operations)), isNew: false }
}

/** @returns false where that conflicts */
async function mergeBase(client: ForgejoClient, { number }: Pull): Promise<boolean> {
  try {
    await client.send('POST', `/pulls/${number}/update?style=merge`)
    return true
  } catch (error) {
    if (error instanceof ForgejoRefusal && error.status === 409) return false
    throw error
  }
}

/** @param from the branch that the change's own is made from; without, it is there already */
async function commit(
  client: ForgejoClient,
  change: Change,
  files: Operation[],
  from?: string,
): Promise<{ commit: string; written: true }> {
  const where = from === undefined ? { branch: change.branch } : { branch: from, new_branch: change.branch }
  const made = await client.send<{ commit: { sha: string } }>('POST', '/contents', {
    ...where,
    message: changeMessage(change),
    files,
  })
  return { commit: made.commit.sha, written: true }
}

/**
 * Whether there is a branch that may be overwritten: what it has beside its base are commits of this program, and merges of
 * the base into them, as `mergeBase` makes them.
 * @throws ImagebuildError `busy` where this program has not written one of its commits
 */
export async function isOwnBranch(client: ForgejoClient, branch: string, base: string): Promise<boolean> {
  if ((await orNothing(client.get<Branch>(branchPath(branch)))) === undefined) return false
  const only = { stat: 'false', verification: 'false', files: 'false' }
  const commits = await client.list<Commit>('/commits', { sha: branch, not: base, ...only })
  const beside = new Set(commits.map(({ sha }) => sha))
  const isOwn = ({ commit, parents: [first, second, ...more] }: Commit) => {
    if (digestIn(commit.message) !== undefined) return true
    if (first === undefined || second === undefined || more.length > 0) return false
    return beside.has(first.sha) && !beside.has(second.sha)
  }
  const foreign = commits.find((one) => !isOwn(one))
  if (foreign !== undefined) throw foreignCommit(branch, foreign.sha, foreign.commit.message)
  return true
}

export async function removeBranch(client: ForgejoClient, branch: string): Promise<void> {
  await orNothing(client.send('DELETE', branchPath(branch)))
}

export async function closePull(client: ForgejoClient, pull: Pull, comment: string): Promise<void> {
  await client.send('POST', `/issues/${pull.number}/comments`, { body: comment })
  await client.send('PATCH', `/pulls/${pull.number}`, { state: 'closed' })
}

export async function contentsAt(
  client: ForgejoClient,
  paths: readonly string[],
  ref: string,
): Promise<Map<string, Content>> {
  const found = new Map<string, Content>()
  for (const path of paths) {
    const content = await orNothing(client.get<Content>(`/contents/${escaped(path)}`, { ref }))
    if (content !== undefined) found.set(path, content)
  }
  return found
}

function operationsFor(wanted: Wanted, there: Map<string, Content>): Operation[] {
  return [...wanted].flatMap(([path, content]): Operation[] => {
    const sha = there.get(path)?.sha
    if (content === undefined) return sha === undefined ? [] : [{ operation: 'delete', path, sha }]
    if (sha === undefined) return [{ operation: 'create', path, content }]
    const same = sha === nameOf(Buffer.from(content, 'base64'), sha)
    return same ? [] : [{ operation: 'update', path, content, sha }]
  })
}

function wantedOf({ files }: Change): Wanted {
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  return new Map([...files].map(([path, text]) => [path, text === undefined ? undefined : base64(text)]))
}

function nameOf(content: string | Buffer | undefined, like: string): string | undefined {
  return content === undefined ? undefined : blobName(content, like)
}

function branchPath(branch: string): string {
  return `/branches/${escaped(branch)}`
}

/** Slashes stay: the routes take the rest of the path. */
function escaped(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}

async function orNothing<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked
  } catch (error) {
    if (error instanceof ForgejoRefusal && error.status === 404) return undefined
    throw error
  }
}
