import type { SecretRegistry } from '../src/core/secrets.ts'
import type { Change, Forge, ForgeContext, ForgeSettings, Proposal, Status } from './forge.ts'
import { bringBranch, fileOn, presentCommit, removeBranch } from './github-branch.ts'
import { reportCheckRun, reportCommitStatus } from './github-checks.ts'
import { githubClient, isAppToken, type Pace, type Repository, statusOf } from './github-client.ts'
import { githubFailure } from './github-failure.ts'
import { requireOwnBranch } from './own-branch.ts'
import { withFailureOf } from './with-failure.ts'
import { changeWithoutSecrets, statusWithoutSecrets } from './without-secrets.ts'

interface OpenPull {
  number: number
  html_url: string
  title: string
  body: string | null
  base: { ref: string }
}

/** GitHub by its Git data API. @throws ImagebuildError `definition_invalid` where there is no token */
export async function openGithub(
  settings: ForgeSettings,
  secrets: SecretRegistry,
  context: ForgeContext,
  pace?: Pace,
): Promise<Forge> {
  const token = await secrets.resolve(settings.token, context.signal)
  const { owner, repo } = settings
  const repository: Repository = {
    client: githubClient(settings, token, context, pace),
    at: { owner, repo },
  }
  const named = `${owner}/${repo}`
  const withFailure = withFailureOf(context.signal, (error, what) => githubFailure(error, what, named))
  return {
    async propose(proposed) {
      const change = changeWithoutSecrets(proposed, secrets)
      requireOwnBranch(change)
      return await withFailure(`no pull request was written in ${named}`, propose(repository, change))
    },
    async report(reported) {
      const status = statusWithoutSecrets(reported, secrets)
      const what = `the status of ${status.commit} was not written in ${named}`
      await withFailure(what, report(repository, status, isAppToken(token)))
    },
    async read(branch, path) {
      return await withFailure(
        `${path} on ${branch} was not read in ${named}`,
        fileOn(repository, branch, path),
      )
    },
    async defaultBranch() {
      const { data } = await withFailure(
        `${named} was not read`,
        repository.client.rest.repos.get(repository.at),
      )
      return data.default_branch
    },
  }
}

async function propose(repository: Repository, change: Change): Promise<Proposal> {
  const pull = await openPull(repository, change.branch)
  const branch = await bringBranch(repository, change)
  if (branch === 'pointless') return await withdraw(repository, change, pull)
  const { client, at } = repository
  const { title, body, base } = change
  if (pull === undefined) {
    const created = await createPull(repository, change)
    return { done: 'created', number: created.number, url: created.html_url, commit: branch.commit }
  }
  const isLeft = change.keepText === true && !branch.written
  const isSame = pull.title === title && sameText(pull.body ?? '', body)
  const same = pull.base.ref === base && (isLeft || isSame)
  if (!same) await client.rest.pulls.update({ ...at, pull_number: pull.number, title, body, base })
  const done = same && !branch.written ? 'unchanged' : 'updated'
  return { done, number: pull.number, url: pull.html_url, commit: branch.commit }
}

async function openPull({ client, at }: Repository, branch: string): Promise<OpenPull | undefined> {
  const { data } = await client.rest.pulls.list({ ...at, state: 'open', head: `${at.owner}:${branch}` })
  // A fork of the same owner may have such a branch too.
  const full = `${at.owner}/${at.repo}`.toLowerCase()
  return data.find(({ head }) => head.ref === branch && head.repo?.full_name.toLowerCase() === full)
}

/** Another run may have written one since this run looked; then that one is brought to what the change says. */
async function createPull(repository: Repository, change: Change): Promise<OpenPull> {
  const { client, at } = repository
  const { branch: head, base, title, body } = change
  try {
    return (await client.rest.pulls.create({ ...at, head, base, title, body })).data
  } catch (error) {
    const other = statusOf(error) === 422 ? await openPull(repository, head) : undefined
    if (other === undefined) throw error
    return (await client.rest.pulls.update({ ...at, pull_number: other.number, title, body, base })).data
  }
}

async function withdraw(
  repository: Repository,
  { branch, closingComment }: Change,
  pull: OpenPull | undefined,
): Promise<Proposal> {
  const { client, at } = repository
  // Whose the branch is is asked before anything is said: of a branch of people the pull request stays open.
  const present = await presentCommit(repository, branch)
  if (pull !== undefined) {
    const one = { ...at, request: { retries: 0 } }
    // Sent twice it would stand there twice.
    await client.rest.issues.createComment({ ...one, issue_number: pull.number, body: closingComment })
    await client.rest.pulls.update({ ...at, pull_number: pull.number, state: 'closed' })
  }
  if (present !== undefined) await removeBranch(repository, branch)
  return pull === undefined
    ? { done: 'nothing' }
    : { done: 'closed', number: pull.number, url: pull.html_url }
}

/** An App's token whose App may not write checks is told so; a token that is no App's after all gets a commit status. */
async function report(repository: Repository, status: Status, app: boolean): Promise<void> {
  if (!app) return await reportCommitStatus(repository, status)
  try {
    await reportCheckRun(repository, status)
  } catch (error) {
    if (statusOf(error) !== 403 || !/authenticate via a GitHub App/i.test(String(error))) throw error
    await reportCommitStatus(repository, status)
  }
}

/** Text that went through a web form may have got other line ends. */
function sameText(a: string, b: string): boolean {
  return a.replaceAll('\r\n', '\n').trimEnd() === b.replaceAll('\r\n', '\n').trimEnd()
}
