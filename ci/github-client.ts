import { retry } from '@octokit/plugin-retry'
import { type ThrottlingOptions, throttling } from '@octokit/plugin-throttling'
import { Octokit } from '@octokit/rest'
import { sleep } from '../src/core/scope.ts'
import type { ForgeContext, ForgeSettings } from './forge.ts'
import { forgeFetch } from './forge-fetch.ts'

/** GitHub's counts are per hour; whoever has used them up waits no longer than this, and is told. */
const LONGEST_WAIT_SECONDS = 900
const MOST_WAITS = 3

const Client = Octokit.plugin(throttling, retry)

export interface Repository {
  client: InstanceType<typeof Client>
  /** what all requests name */
  at: { owner: string; repo: string }
}

/** How fast and how patient; only tests have no second to lose. */
export type Pace = Partial<Pick<ThrottlingOptions, 'write' | 'notifications' | 'retryAfterBaseValue'>>

/**
 * Octokit, which keeps GitHub's distances between writes, waits for what its limits name (`Retry-After`,
 * `x-ratelimit-reset`), and asks again where the server or the connection broke.
 */
export function githubClient(
  settings: ForgeSettings,
  token: string,
  { say, signal }: ForgeContext,
  pace: Pace = {},
): Repository['client'] {
  const second = pace.retryAfterBaseValue ?? 1000
  // It waits itself: Octokit's timers do not hear of the signal, and would keep this process alive.
  const wait = (kind: string) => async (seconds: number, _asked: object, _client: object, waits: number) => {
    if (seconds > LONGEST_WAIT_SECONDS || waits >= MOST_WAITS || signal.aborted) return false
    say(`GitHub: ${kind}; asking again in ${seconds} s`)
    return await sleep(seconds * second, signal).then(
      () => true,
      () => false,
    )
  }
  return new Client({
    auth: token,
    baseUrl: settings.api,
    userAgent: 'imagebuild',
    request: { fetch: forgeFetch(settings), signal },
    // What goes wrong is said once, where it is known what was meant.
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
    throttle: {
      onRateLimit: wait('the hourly limit is used up'),
      onSecondaryRateLimit: wait('too many requests in a short time'),
      ...pace,
      retryAfterBaseValue: 0,
    },
    ...(pace.retryAfterBaseValue !== undefined && {
      retry: { retryAfterBaseValue: pace.retryAfterBaseValue },
    }),
  })
}

/**
 * Whether a token is an App's, as GITHUB_TOKEN of Actions is: only those may write check runs. Octokit's own answer takes
 * the longer tokens of 2026 (`ghs_` and a JWT) for something else.
 */
export function isAppToken(token: string): boolean {
  return token.startsWith('ghs_') || token.startsWith('v1.')
}

/** The HTTP status that an error of Octokit's bears. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof Error && 'status' in error ? Number(error.status) : undefined
}
