import { isDeepStrictEqual } from 'node:util'
import pRetry from 'p-retry'
import { type ErrorFacts, ImagebuildError } from '../src/core/errors.ts'
import { sleep } from '../src/core/scope.ts'
import type { ForgeContext, ForgeSettings } from './forge.ts'
import { forgeFetch } from './forge-fetch.ts'

/** Whoever is told to wait longer is told so, and gives up. */
const LONGEST_WAIT_SECONDS = 900
const MOST_WAITS = 3

/** Its message is what the server said, without any request's content. */
export class ForgejoRefusal extends Error {
  override readonly name = 'ForgejoRefusal'
  /** 0 where the connection broke, or what came is no answer of the API */
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
    }).catch(broken)
    const text = await response.text().catch(broken)
    if (!response.ok) throw new ForgejoRefusal(response.status, saidBy(text, response), waitOf(response))
    return { value: text === '' ? undefined : parsed(text, response), total: totalOf(response) }
  }
  const broken = (cause: unknown): never => {
    signal.throwIfAborted()
    const because = (cause as { cause?: Error }).cause?.message ?? (cause as Error).message
    throw new ForgejoRefusal(0, because, undefined, cause)
  }
  const ask = async (method: string, path: string, query: Record<string, string | number>, body?: object) =>
    await pRetry(() => once(method, path, query, body), {
      retries: MOST_WAITS,
      minTimeout: second,
      signal,
      shouldRetry: ({ error }) => mayPass(error, method),
      onFailedAttempt: async ({ error, retriesLeft }) => {
        const wait = error instanceof ForgejoRefusal ? error.retryAfter : undefined
        if (wait === undefined || retriesLeft === 0 || !mayPass(error, method)) return
        say(`the forge asks to wait; asking again in ${wait} s`)
        await sleep(wait * second, signal)
      },
    })
  return {
    get: async <T>(path: string, query = {}) => (await ask('GET', path, query)).value as T,
    list: <T>(path: string, query = {}) =>
      allPages<T>(async (page) => {
        const { value, total } = await ask('GET', path, { ...query, page, limit: PAGE })
        return { items: value as T[], total }
      }),
    send: async <T>(method: string, path: string, body?: object) =>
      (await ask(method, path, {}, body)).value as T,
  }
}

/**
 * A server may give less than is asked for: its first page tells how long its pages are. One that does not count, and does
 * not know of pages either, gives the same again and again.
 */
async function allPages<T>(
  read: (page: number) => Promise<{ items: T[]; total: number | undefined }>,
): Promise<T[]> {
  const all: T[] = []
  let before: T[] | undefined
  for (let page = 1; ; page++) {
    const { items, total } = await read(page)
    if (items.length === 0 || isDeepStrictEqual(items, before)) return all
    all.push(...items)
    if (all.length === total || (before !== undefined && items.length < before.length)) return all
    before = items
  }
}

function parsed(text: string, { status, headers }: Response): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const type = headers.get('content-type') ?? 'something'
    throw new ForgejoRefusal(0, `it answers ${status} with ${type} that is no JSON`, undefined, cause)
  }
}

function totalOf({ headers }: Response): number | undefined {
  const total = headers.get('x-total-count')
  return total === null ? undefined : Number(total)
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
      next: `give a token with ${scopes}, of a user who may write to ${repository}`,
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
  if (status === 422 && /already exists/.test(message))
    return { code: 'busy', next: 'run again: another run has written the same meanwhile' }
  return { code: 'internal', next: 'run again with --debug for the stack, and please report it' }
}
