import { ImagebuildError } from '../src/core/errors.ts'
import type { Change } from './forge.ts'
import { type Repository, statusOf } from './github-client.ts'
import { blobName, changeDigest, changeMessage, digestIn, foreignCommit, movedBase } from './own-branch.ts'

/** A request to create a tree bears the files' text; much longer ones are not answered in time. In characters. */
const TEXT_OF_ONE_TREE = 1_000_000
/** Another run, or a user, may create or delete the branch between a look and a write; more than this is no coincidence. */
const MOST_TRIES = 3

/**
 * One commit upon the present base branch. The branch is written only where it has another one.
 * @returns 'pointless' where the base branch has all of it already
 */
export async function bringBranch(
  repository: Repository,
  change: Change,
): Promise<'pointless' | { commit: string; written: boolean }> {
  const { client, at } = repository
  if (change.files.size === 0) return 'pointless'
  const base = (await client.rest.git.getRef({ ...at, ref: `heads/${change.base}` })).data.object.sha
  const tree = await treeOf(repository, base)
  const now = await blobsAt(repository, tree, change.files)
  const differing = [...change.files].filter(
    ([path, text]) => now.get(path) !== (text === undefined ? undefined : blobName(text, base)),
  )
  if (differing.length === 0) return 'pointless'
  await requireUnmoved(repository, change, { base, now, paths: differing.map(([path]) => path) })
  const digest = changeDigest(change)
  let commit: string | undefined
  for (let tries = 1; ; tries++) {
    const present = await presentCommit(repository, change.branch)
    if (present?.digest === digest && present.parent === base) return { commit: present.sha, written: false }
    commit ??= await createCommit(repository, {
      base,
      tree,
      files: differing,
      message: changeMessage(change),
    })
    if (await point(repository, change.branch, commit, present !== undefined))
      return { commit, written: true }
    if (tries === MOST_TRIES) throw contended(change.branch)
  }
}

export async function removeBranch({ client, at }: Repository, branch: string): Promise<void> {
  await client.rest.git.deleteRef({ ...at, ref: `heads/${branch}` }).catch((error: unknown) => {
    // GitHub's answer for a branch that has gone meanwhile.
    if (statusOf(error) !== 422) throw error
  })
}

/** The text of a file; undefined where there is no such branch, or no such file. */
export async function fileOn(
  { client, at }: Repository,
  branch: string,
  path: string,
): Promise<string | undefined> {
  const found = await client.rest.repos.getContent({ ...at, path, ref: branch }).catch((error: unknown) => {
    if (statusOf(error) !== 404) throw error
  })
  if (found === undefined || Array.isArray(found.data)) return undefined
  // Of larger files this answer has no content.
  const { data } = await client.rest.git.getBlob({ ...at, file_sha: found.data.sha })
  return Buffer.from(data.content, 'base64').toString('utf8')
}

async function treeOf({ client, at }: Repository, commit: string): Promise<string> {
  return (await client.rest.git.getCommit({ ...at, commit_sha: commit })).data.tree.sha
}

/** git's names of these files in a tree, of those that are there. One request for each folder on the way. */
async function blobsAt(
  { client, at }: Repository,
  root: string,
  files: Change['files'],
): Promise<Map<string, string>> {
  const folders = new Map<string, Promise<Map<string, string>>>()
  const list = async (sha: string) => {
    const { data } = await client.rest.git.getTree({ ...at, tree_sha: sha })
    return new Map(data.tree.map((entry) => [entry.path, entry.sha]))
  }
  const folder = (path: string): Promise<Map<string, string>> => {
    const known = folders.get(path)
    if (known !== undefined) return known
    const listed = path === '' ? list(root) : nameIn(path).then((sha) => (sha ? list(sha) : new Map()))
    folders.set(path, listed)
    return listed
  }
  const nameIn = async (path: string) => {
    const slash = path.lastIndexOf('/')
    return (await folder(slash === -1 ? '' : path.slice(0, slash))).get(path.slice(slash + 1))
  }
  const found = new Map<string, string>()
  for (const path of files.keys()) {
    const sha = await nameIn(path)
    if (sha !== undefined) found.set(path, sha)
  }
  return found
}

/** What this run's files were made from must still be what the base branch has of them. */
async function requireUnmoved(
  repository: Repository,
  { from, files, base: branch }: Change,
  { base, now, paths }: { base: string; now: Map<string, string>; paths: string[] },
): Promise<void> {
  if (from === undefined || from === base) return
  const then = await blobsAt(repository, await treeOf(repository, from), files)
  const moved = paths.filter((path) => then.get(path) !== now.get(path))
  if (moved.length > 0) throw movedBase(branch, moved)
}

interface PresentCommit {
  sha: string
  parent: string | undefined
  digest: string
}

/** @throws ImagebuildError `busy` where the branch's last commit is not this program's */
export async function presentCommit(
  { client, at }: Repository,
  branch: string,
): Promise<PresentCommit | undefined> {
  const ref = await client.rest.git.getRef({ ...at, ref: `heads/${branch}` }).catch((error: unknown) => {
    if (statusOf(error) !== 404) throw error
  })
  if (ref === undefined) return undefined
  const { data } = await client.rest.git.getCommit({ ...at, commit_sha: ref.data.object.sha })
  const digest = digestIn(data.message)
  if (digest === undefined) throw foreignCommit(branch, data.sha, data.message)
  return { sha: data.sha, parent: data.parents[0]?.sha, digest }
}

/** Without author and committer: they are then the token's, and GitHub signs the commits of an App. */
async function createCommit(
  { client, at }: Repository,
  made: { base: string; tree: string; files: [string, string | undefined][]; message: string },
): Promise<string> {
  let tree = made.tree
  for (const files of portions(made.files)) {
    const entries = files.map(([path, text]) => {
      const file = { path, mode: '100644', type: 'blob' } as const
      return text === undefined ? { ...file, sha: null } : { ...file, content: text }
    })
    tree = (await client.rest.git.createTree({ ...at, base_tree: tree, tree: entries })).data.sha
  }
  const { message, base } = made
  return (await client.rest.git.createCommit({ ...at, message, tree, parents: [base] })).data.sha
}

/** Each portion becomes a tree upon that of the portion before it. */
function portions(files: [string, string | undefined][]): [string, string | undefined][][] {
  const all: [string, string | undefined][][] = []
  let room = 0
  for (const file of files) {
    const size = file[1]?.length ?? 0
    if (all.length === 0 || size > room) {
      all.push([])
      room = TEXT_OF_ONE_TREE
    }
    all.at(-1)?.push(file)
    room -= size
  }
  return all
}

/** @returns false where the branch has come or gone since it was looked at */
async function point(
  { client, at }: Repository,
  branch: string,
  sha: string,
  exists: boolean,
): Promise<boolean> {
  try {
    if (exists) await client.rest.git.updateRef({ ...at, ref: `heads/${branch}`, sha, force: true })
    else await client.rest.git.createRef({ ...at, ref: `refs/heads/${branch}`, sha })
    return true
  } catch (error) {
    if (statusOf(error) === 422 && /Reference (already exists|does not exist)/i.test(String(error)))
      return false
    throw error
  }
}

function contended(branch: string): ImagebuildError {
  return new ImagebuildError({
    code: 'busy',
    what: `the branch ${branch} was not written`,
    why: 'another run creates or deletes it at the same time',
    next: 'let one run at a time write it (a concurrency group), and run again',
  })
}
