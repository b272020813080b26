import type { SecretRegistry } from '../src/core/secrets.ts'
import type { Change, Forge, ForgeContext, ForgeSettings, Proposal, Status } from './forge.ts'
import { bringBranch, closePull, contentsAt, isOwnBranch, type Pull, removeBranch } from './forgejo-branch.ts'
import { type ForgejoClient, forgejoClient, forgejoFailure } from './forgejo-client.ts'
import { cutText } from './markdown.ts'
import { requireOwnBranch } from './own-branch.ts'
import { withFailureOf } from './with-failure.ts'
import { changeWithoutSecrets, statusWithoutSecrets } from './without-secrets.ts'

/** The column of Forgejo's database is a text; a longer one is no line. */
const DESCRIPTION_LIMIT = 255

/** Forgejo and Gitea, whose APIs are the same here. @throws ImagebuildError `definition_invalid` where there is no token */
export async function openForgejo(
  settings: ForgeSettings,
  secrets: SecretRegistry,
  context: ForgeContext,
  second?: number,
): Promise<Forge> {
  const token = await secrets.resolve(settings.token, context.signal)
  const client = forgejoClient(settings, token, context, second)
  const repository = `${settings.owner}/${settings.repo}`
  const withFailure = withFailureOf(context.signal, (error, what) => forgejoFailure(error, what, repository))
  return {
    async propose(proposed) {
      const change = changeWithoutSecrets(proposed, secrets)
      requireOwnBranch(change)
      return await withFailure(`no pull request was written in ${repository}`, propose(client, change))
    },
    async report(reported) {
      const status = statusWithoutSecrets(reported, secrets)
      const what = `the status of ${status.commit} was not written in ${repository}`
      await withFailure(what, report(client, status))
    },
    async read(branch, path) {
      const content = await withFailure(
        `${path} on ${branch} was not read in ${repository}`,
        contentsAt(client, [path], branch),
      )
      const base64 = content.get(path)?.content ?? undefined
      return base64 === undefined ? undefined : Buffer.from(base64, 'base64').toString('utf8')
    },
    async defaultBranch() {
      const { default_branch } = await withFailure(
        `${repository} was not read`,
        client.get<{ default_branch: string }>(''),
      )
      return default_branch
    },
  }
}

async function propose(client: ForgejoClient, change: Change): Promise<Proposal> {
  const pull = await openPull(client, change.branch)
  const brought = await bringBranch(client, change, pull)
  if (brought === 'pointless') return await withdraw(client, change, pull)
  const { title, body, base, branch: head } = change
  if (pull === undefined || brought.isNew) {
    const created = await client.send<Pull>('POST', '/pulls', { title, body, base, head })
    return { done: 'created', number: created.number, url: created.html_url, commit: brought.commit }
  }
  const isLeft = change.keepText === true && !brought.written
  const same = pull.base.ref === base && (isLeft || (pull.title === title && pull.body === body))
  if (!same) await client.send('PATCH', `/pulls/${pull.number}`, { title, body, base })
  const done = same && !brought.written ? 'unchanged' : 'updated'
  return { done, number: pull.number, url: pull.html_url, commit: brought.commit }
}

async function openPull(client: ForgejoClient, branch: string): Promise<Pull | undefined> {
  const open = await client.list<Pull | null>('/pulls', { state: 'open' })
  // A fork may have such a branch too; where a pull request cannot be read, null stands in its place.
  return (
    open.find((pull) => pull?.head.ref === branch && pull.head.repo_id === pull.base.repo_id) ?? undefined
  )
}

async function withdraw(client: ForgejoClient, change: Change, pull: Pull | undefined): Promise<Proposal> {
  // Asked before anything is said: of a branch of people the pull request stays open.
  const present = await isOwnBranch(client, change.branch, pull?.base.ref ?? change.base)
  if (pull !== undefined) await closePull(client, pull, change.closingComment)
  if (present) await removeBranch(client, change.branch)
  return pull === undefined
    ? { done: 'nothing' }
    : { done: 'closed', number: pull.number, url: pull.html_url }
}

/** There are no check runs, so no annotations either: the log has them. */
async function report(client: ForgejoClient, status: Status): Promise<void> {
  await client.send('POST', `/statuses/${status.commit}`, {
    context: status.name,
    state: status.state,
    description: cutText(status.title, DESCRIPTION_LIMIT),
    ...(status.url !== undefined && { target_url: status.url }),
  })
}
