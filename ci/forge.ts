import type { SecretReference } from '../src/core/secrets.ts'

/**
 * What a forge (GitHub, Forgejo, Gitea) is asked for after scheduled rebuilds: one branch with one pull request, and a
 * status at a commit. Each forge is a file beside this one; all give the same result.
 */
export interface Forge {
  /**
   * Brings branch and pull request to what the change says, and sends only what is not there yet. Where the base branch
   * has all of it already, an open pull request is closed with a comment, and the branch removed.
   * @throws ImagebuildError `permission_denied`, `not_found`, `unreachable`, or `busy` where a later run may succeed
   */
  propose(change: Change): Promise<Proposal>
  /** Throws as `propose` does. */
  report(status: Status): Promise<void>
  /**
   * The text of a file on a branch; undefined where there is no such branch, or no such file on it. Throws as `propose` does.
   * @param path from the repository's root
   */
  read(branch: string, path: string): Promise<string | undefined>
  /** What new branches begin at. Throws as `propose` does. */
  defaultBranch(): Promise<string>
}

export interface Change {
  /** of this program alone: it is overwritten. See `OWN_BRANCHES`. */
  branch: string
  /** the branch that the change is for */
  base: string
  /** the commit that the files were made from; what was changed on the base branch since then is not overwritten */
  from?: string
  title: string
  /** Markdown, of at most `BODY_LIMIT` characters */
  body: string
  /** path from the repository's root → the whole text, or undefined for a file that goes */
  files: ReadonlyMap<string, string | undefined>
  /** leave title and body of a pull request that has this very change already: they tell more of how it came about */
  keepText?: boolean
  /** what to say in a pull request that has become pointless */
  closingComment: string
}

export type Proposal =
  | { done: 'created' | 'updated' | 'unchanged'; number: number; url: string; commit: string }
  | { done: 'closed'; number: number; url: string }
  | { done: 'nothing' }

export interface Status {
  commit: string
  /** the same name at the same commit takes the place of what was said before */
  name: string
  state: 'success' | 'failure'
  /** one line */
  title: string
  /** Markdown */
  summary: string
  /** where the log is */
  url?: string
  annotations: readonly Annotation[]
}

export interface Annotation {
  /** from the repository's root */
  file: string
  /** counts from 1 */
  line: number
  level: 'notice' | 'warning' | 'failure'
  text: string
}

/** Which repository on which forge, and how to log in. */
export interface ForgeSettings {
  kind: 'github' | 'forgejo'
  /** of the API, without a slash at the end */
  api: string
  owner: string
  repo: string
  token: SecretReference
  /** PEM, in addition to the authorities that Node knows */
  ca?: string
}

export interface ForgeContext {
  /** a line for people: what is waited for */
  say: (line: string) => void
  signal: AbortSignal
}

/** GitHub's limit for bodies of pull requests and comments, in characters. Forgejo and Gitea take more. */
export const BODY_LIMIT = 65_536
