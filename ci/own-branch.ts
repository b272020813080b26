import { createHash } from 'node:crypto'
import { ImagebuildError } from '../src/core/errors.ts'
import type { Change } from './forge.ts'

/** Branches with this prefix are overwritten without asking; no others are touched. */
export const OWN_BRANCHES = 'imagebuild/'

/** Forgejo takes no longer names (`MaxSize(100)` of its file options). */
const LONGEST_BRANCH = 100

/** @throws ImagebuildError `usage` before anything is sent */
export function requireOwnBranch({ branch, base }: Change): void {
  const why = !branch.startsWith(OWN_BRANCHES)
    ? `its name does not begin with ${OWN_BRANCHES}`
    : branch.length > LONGEST_BRANCH
      ? `its name has more than ${LONGEST_BRANCH} characters`
      : branch === base
        ? 'it is the branch that the pull request would be for'
        : undefined
  if (why === undefined) return
  throw new ImagebuildError({
    code: 'usage',
    what: `the branch ${branch} cannot be written`,
    why,
    next: `choose a branch such as ${OWN_BRANCHES}rebuild, and another one as the base`,
  })
}

/** git's name of a file's content. A repository has SHA-1 or SHA-256 throughout; `like` is any of its names. */
export function blobName(content: string | Buffer, like: string): string {
  const bytes = Buffer.from(content)
  return createHash(like.length === 64 ? 'sha256' : 'sha1')
    .update(`blob ${bytes.length}\0`)
    .update(bytes)
    .digest('hex')
}

/** The base branch went on while images were built, in the very files that this change writes. */
export function movedBase(base: string, files: readonly string[]): ImagebuildError {
  return new ImagebuildError({
    code: 'busy',
    what: 'no pull request was written',
    why: `since this run began, these files were changed on ${base}: ${files.join(', ')}`,
    next: `run again from the present ${base}: the templates are there, and nothing is built twice`,
  })
}

/** In the message of each commit of this program: what it was made from, so that the same is not written twice. */
const TRAILER = 'Imagebuild-Change'

export function changeMessage(change: Change): string {
  return `${change.title}\n\n${TRAILER}: ${changeDigest(change)}\n`
}

/** Of the files that the branch has beside those of its base. */
export function changeDigest({ files }: Change): string {
  const sorted = [...files].map(([path, text]) => [path, text ?? null]).sort()
  return createHash('sha256').update(JSON.stringify(sorted)).digest('hex')
}

/** The digest in the message of a commit of this program; undefined for the commits of people. */
export function digestIn(message: string): string | undefined {
  return new RegExp(`^${TRAILER}: ([0-9a-f]{64})$`, 'm').exec(message)?.[1]
}

/** A branch is not overwritten that has a commit of people. */
export function foreignCommit(branch: string, commit: string, message: string): ImagebuildError {
  return new ImagebuildError({
    code: 'busy',
    what: `the branch ${branch} is not overwritten`,
    why: `its commit ${commit} was not written by imagebuild: "${message.split('\n')[0]}"`,
    next: `merge it, or delete the branch; commits of people belong on branches that do not begin with ${OWN_BRANCHES}`,
  })
}
