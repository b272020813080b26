import pRetry from 'p-retry'
import { type ErrorFacts, ImagebuildError } from '../src/core/errors.ts'
import type { ForgeContext, ForgeSettings } from './forge.ts'
import { forgeFetch } from './forge-fetch.ts'

/** Whoever is told to wait longer is told so, and gives up. */
const LONGEST_WAIT_SECONDS = 900
const MOST_WAITS = 3

/** Its message is what the server said, without any request's content. */
export class ForgejoRefusal extends Error {
  override readonly name = 'ForgejoRefusal'
  /** 0 where the connection broke */
  readonly status: number
  /** seconds, where the server names them */
  readonly retryAfter: number | undefined

  constructor(status: number, message: string, retryAfter?: number, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.status = status
    this.retryAfter = retryAfter
  }
}

export interface ForgejoClient {
  get<T>(path: string, query?: Record<string, string | number>): Promise<T>
  /** All pages of a list. */
  list<T>(path: string, query?: Record<string, string | number>): Promise<T[]>
  send<T>(method: 'POST' | 'PATCH' | 'DELETE', path: string, body?: object): Promise<T>
}

/** Forgejo's and Gitea's largest page by default. */
const PAGE = 50

/**
 * The API below /repos/{owner}/{repo}. Reads are repeated where the server or the connection broke; what changes something
 * only where the server says that it did nothing (429, 503 with Retry-After).
 * @param second milliseconds; only tests have no second to lose
 */
export function forgejoClient(
  settings: ForgeSettings,
  token: string,
  { say, signal }: ForgeContext,
  second = 1000,
): ForgejoClient {
  const fetch = forgeFetch(settings)
  const root = `${settings.api}/repos/${encodeURIComponent(settings.owner)}/${encodeURIComponent(settings.repo)}`
  const once = async (
    method: string,
    path: string,
    query: Record<string, string | number>,
    body?: object,
  ) => {
    const url = new URL(root + path)
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value))
    const response = await fetch(url, {
      method,
      signal,
      headers: {
        authorization: `token ${token}`,
        accept: 'application/json',
        'user-agent': 'imagebuild',
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    }).catch((cause: unknown) => {
      signal.throwIfAborted()
      const because = (cause as { cause?: Error }).cause?.message ?? (cause as Error).message
      throw new ForgejoRefusal(0, because, undefined, cause)
    })
    const text = await response.text()
    if (!response.ok) throw new ForgejoRefusal(response.status, saidBy(text, response), waitOf(response))
    return text === '' ? undefined : (JSON.parse(text) as unknown)
  }
  const ask = async <T>(
    method: string,
    path: string,
    query: Record<string, string | number>,
    body?: object,
  ) =>
    (await pRetry(() => once(method, path, query, body), {
      retries: MOST_WAITS,
      minTimeout: second,
      signal,
      shouldRetry: ({ error }) => mayPass(error, method),
      onFailedAttempt: async ({ error, retriesLeft }) => {
        const wait = error instanceof ForgejoRefusal ? error.retryAfter : undefined
        if (wait === undefined || retriesLeft === 0 || !mayPass(error, method)) return
        say(`the forge asks to wait; asking again in ${wait} s`)
        await new Promise((done) => setTimeout(done, wait * second))
      },
    })) as T
  return {
    get: (path, query = {}) => ask('GET', path, query),
    async list<T>(path: string, query: Record<string, string | number> = {}) {
      const all: T[] = []
      for (let page = 1; ; page++) {
        const some = await ask<T[]>('GET', path, { ...query, page, limit: PAGE })
        all.push(...some)
        if (some.length === 0) return all
      }
    },
    send: (method, path, body) => ask(method, path, {}, body),
  }
}

function mayPass(error: Error, method: string): boolean {
  if (!(error instanceof ForgejoRefusal)) return false
  if (error.retryAfter !== undefined && error.retryAfter > LONGEST_WAIT_SECONDS) return false
  if (error.status === 429 || (error.status === 503 && error.retryAfter !== undefined)) return true
  return method === 'GET' && (error.status === 0 || error.status >= 500)
}

function saidBy(text: string, { status, statusText }: Response): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown }
    if (typeof message === 'string' && message !== '') return message
  } catch {
    // A proxy's page of HTML says nothing that the status does not.
  }
  return `${status} ${statusText}`.trim()
}

function waitOf({ headers }: Response): number | undefined {
  const seconds = Number(headers.get('retry-after') ?? Number.NaN)
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined
}

/** What the forge refused, in words that say what to do. Other errors are given back as they are. */
export function forgejoFailure(error: unknown, what: string, repository: string): unknown {
  if (!(error instanceof ForgejoRefusal)) return error
  return new ImagebuildError({ what, why: error.message, ...told(error, repository), cause: error })
}

function told({ status, message }: ForgejoRefusal, repository: string): Pick<ErrorFacts, 'code' | 'next'> {
  if (status === 0) return { code: 'unreachable', next: 'check the network and the address of the API' }
  if (status === 401)
    return { code: 'permission_denied', next: 'give a token that is valid and has not expired' }
  if (status === 403) {
    const scopes =
      /required scope\(s\)(?:: | )\[?([^\]]+)\]?/.exec(message)?.[1] ?? 'write:repository and write:issue'
    return {
      code: 'permission_denied',
      next: `give a token with ${scopes}, of somebody who may write to ${repository}`,
    }
  }
  if (status === 404) {
    const own =
      'in place of the one that the runner makes, which may not read all that a private repository has'
    const next = `check that ${repository} and the branch exist; give a token of your own as IMAGEBUILD_FORGE_TOKEN, ${own}`
    return { code: 'not_found', next }
  }
  if (status === 423)
    return { code: 'permission_denied', next: 'unarchive the repository, or choose another' }
  if (status === 413) return { code: 'permission_denied', next: 'ask for a higher quota' }
  if (status === 409 || status === 429) return { code: 'busy', next: 'run again later' }
  if (status >= 500) return { code: 'unreachable', next: 'try again later' }
  return { code: 'internal' }
}
