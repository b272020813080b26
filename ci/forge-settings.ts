import { ImagebuildError } from '../src/core/errors.ts'
import { isSecretReference, type SecretReference } from '../src/core/secrets.ts'
import type { PullRequestSettings } from '../src/definition/ci-schema.ts'
import type { ForgeSettings } from './forge.ts'

/** What the user says; all else is taken from the environment of the CI system. */
export type ForgeOptions = Omit<PullRequestSettings, 'base'>

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Which forge and repository this run belongs to. The runners of Forgejo and Gitea set GITHUB_ACTIONS and the other
 * variables of GitHub too, so theirs are looked at first.
 * @throws ImagebuildError `usage` where that cannot be told
 */
export function forgeSettings(options: ForgeOptions, env: Environment): ForgeSettings {
  const api = options.api ?? named(env, 'API_URL')
  const kind = options.kind ?? kindOf(api, env)
  if (kind === undefined)
    throw unknown('which forge', 'give its kind (github or forgejo) and the address of its API')
  const address = api ?? (kind === 'github' ? 'https://api.github.com' : undefined)
  if (address === undefined || !URL.canParse(address))
    throw unknown('the address of the forge', 'give it, as in https://codeberg.org/api/v1')
  const [owner, repo, ...more] = (options.repository ?? named(env, 'REPOSITORY') ?? '').split('/')
  if (!owner || !repo || more.length > 0) throw unknown('which repository', 'give it as owner/name')
  return {
    kind,
    api: address.replace(/\/+$/, ''),
    owner,
    repo,
    token: tokenReference(options.token, address, env),
    ...(options.ca !== undefined && { ca: options.ca }),
  }
}

/** The commit and the branch that this run was started for, and where its log is, as far as the CI system tells. */
export function startedFor(env: Environment): { commit?: string; branch?: string; log?: string } {
  const [commit, branch, run] = [named(env, 'SHA'), named(env, 'REF_NAME'), named(env, 'RUN_ID')]
  const [server, repository] = [named(env, 'SERVER_URL'), named(env, 'REPOSITORY')]
  return {
    ...(commit && { commit }),
    ...(branch && named(env, 'REF_TYPE') === 'branch' && { branch }),
    ...(run && server && repository && { log: `${server}/${repository}/actions/runs/${run}` }),
  }
}

/** A variable of whichever runner this is. */
function named(env: Environment, name: string): string | undefined {
  return RUNNERS.map((runner) => env[`${runner}_${name}`]).find(Boolean)
}

function kindOf(api: string | undefined, env: Environment): ForgeSettings['kind'] | undefined {
  if (env.FORGEJO_ACTIONS || env.GITEA_ACTIONS) return 'forgejo'
  // GitHub Enterprise Server has /api/v3.
  if (api !== undefined) return /\/api\/v1\/*$/.test(api) ? 'forgejo' : 'github'
  return env.GITHUB_ACTIONS ? 'github' : undefined
}

/**
 * A token of one's own goes first: the runner of Forgejo sets the other variables itself, and cannot be told not to. Those are
 * sent to no forge but the one that the runner belongs to.
 */
function tokenReference(given: string | undefined, api: string, env: Environment): SecretReference {
  if (given !== undefined) {
    if (isSecretReference(given)) return given
    throw new ImagebuildError({
      code: 'usage',
      what: 'the token is not given by reference',
      why: 'on the command line and in files anybody can read it',
      next: 'give env:NAME, file:/path or cmd:command',
    })
  }
  if (env.IMAGEBUILD_FORGE_TOKEN) return OWN_TOKEN
  const runner = RUNNERS.find(
    (one) => env[`${one}_TOKEN`] && originOf(runnersApi(one, env)) === originOf(api),
  )
  return runner === undefined ? OWN_TOKEN : `env:${runner}_TOKEN`
}

const OWN_TOKEN = 'env:IMAGEBUILD_FORGE_TOKEN'
const RUNNERS = ['FORGEJO', 'GITEA', 'GITHUB'] as const

/** Older runners of Forgejo and Gitea set no other address than GITHUB_API_URL, to their own. */
function runnersApi(runner: (typeof RUNNERS)[number], env: Environment): string | undefined {
  return env[`${runner}_API_URL`] || env.GITHUB_API_URL
}

function originOf(address: string | undefined): string | undefined {
  return address !== undefined && URL.canParse(address) ? new URL(address).origin : undefined
}

function unknown(what: string, next: string): ImagebuildError {
  return new ImagebuildError({
    code: 'usage',
    what: `it cannot be told ${what} the pull request is for`,
    why: 'neither the options nor the environment of a CI system say it',
    next,
  })
}
