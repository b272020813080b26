import { RequestError } from '@octokit/request-error'
import { type ErrorFacts, ImagebuildError } from '../src/core/errors.ts'

type Told = Pick<ErrorFacts, 'code' | 'why' | 'next'>

/** What GitHub refused, in words that say what to do. Other errors are given back as they are. */
export function githubFailure(error: unknown, what: string, repository: string): unknown {
  if (!(error instanceof RequestError)) return error
  return new ImagebuildError({ what, ...told(error, repository), cause: error })
}

function told(error: RequestError, repository: string): Told {
  const { response, status } = error
  // Octokit adds the address of GitHub's documentation.
  const why = error.message.replace(/ - https:\/\/\S+$/, '')
  if (response === undefined) return { code: 'unreachable', why, next: 'check the network and the address' }
  const header = (name: string) => response.headers[name]?.toString() || undefined
  if (status === 401)
    return { code: 'permission_denied', why, next: 'give a token that is valid and has not expired' }
  if (status === 429 || isLimit(error, header)) return limit(why, header)
  const known = KNOWN.find(([words]) => words.test(why))
  if (known !== undefined) return { code: 'permission_denied', why, next: known[1] }
  if (status === 403 || status === 404) return refused(why, repository, status, header)
  if (status >= 500)
    return { code: 'unreachable', why: `GitHub answers ${status}: ${why}`, next: 'try again later' }
  if (status === 409) return { code: 'busy', why, next: 'try again later' }
  return { code: 'internal', why: `GitHub answers ${status}: ${why}` }
}

/** GitHub's own words, and what helps. */
const KNOWN: readonly (readonly [RegExp, string])[] = [
  [
    /GitHub Actions is not permitted to create or approve pull requests/i,
    'switch on "Allow GitHub Actions to create and approve pull requests" under Settings > Actions > General > ' +
      'Workflow permissions, of the repository and of its organization; or give the token of a GitHub App',
  ],
  [
    /SAML enforcement/i,
    'authorize the token for the organization: Settings > Developer settings > Configure SSO',
  ],
  [/archived/i, 'unarchive the repository, or choose another'],
  [
    /Cannot force-push|protected branch|Repository rule violations/i,
    'let branches that begin with imagebuild/ be created, overwritten and deleted by this token: ' +
      'Settings > Rules, or Settings > Branches',
  ],
]

function isLimit(error: RequestError, header: (name: string) => string | undefined): boolean {
  return (
    error.status === 403 &&
    (header('x-ratelimit-remaining') === '0' || /secondary rate limit|abuse detection/i.test(error.message))
  )
}

function limit(why: string, header: (name: string) => string | undefined): Told {
  const [after, reset] = [header('retry-after'), header('x-ratelimit-reset')]
  const when =
    after !== undefined
      ? `in ${after} s`
      : reset !== undefined
        ? `after ${new Date(Number(reset) * 1000).toISOString()}`
        : 'in an hour'
  return { code: 'busy', why, next: `run again ${when}; the templates are there, and nothing is built twice` }
}

/** GitHub says 404 too, where a token may not know that there is something. */
function refused(
  why: string,
  repository: string,
  status: 403 | 404,
  header: (name: string) => string | undefined,
): Told {
  const [has, needs] = [header('x-oauth-scopes'), header('x-accepted-oauth-scopes')]
  const permissions = header('x-accepted-github-permissions')
  if (needs !== undefined && !overlap(has, needs)) {
    return {
      code: 'permission_denied',
      why: `${why}; the token has the scopes ${has ?? '(none)'}`,
      next: `give a token with one of the scopes ${needs}`,
    }
  }
  if (status === 403) {
    const lines = permissions?.replaceAll('=', ': ').replaceAll('_', '-')
    return {
      code: 'permission_denied',
      why,
      next: lines
        ? `give the token these permissions on ${repository}: ${lines} (a workflow does under \`permissions:\`)`
        : `give the token the permissions contents: write, pull-requests: write and checks: write on ${repository}`,
    }
  }
  return {
    code: 'not_found',
    why,
    next: `check that ${repository} and the branch exist, and that the token may read them`,
  }
}

function overlap(has: string | undefined, needs: string): boolean {
  const held = new Set(list(has ?? ''))
  return list(needs).some((scope) => held.has(scope))
}

function list(header: string): string[] {
  return header
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
}
