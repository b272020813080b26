import pRetry from 'p-retry'
import { ImagebuildError } from '../core/errors.ts'
import { withDeadline } from '../core/scope.ts'
import { SecretRegistry } from '../core/secrets.ts'
import { PveError } from './errors.ts'
import { type Answer, exchange } from './exchange.ts'
import { ServerClock } from './server-clock.ts'
import { type Credentials, createSession, type Session, type TicketAnswer } from './session.ts'
import { ConnectFailure, ProvenAgent, type TlsTrust } from './tls.ts'

/** What Proxmox answers beside `data` in a few places. */
export interface Envelope {
  data: unknown
  /** lines of a task log in all */
  total?: number
}

export interface RequestOptions {
  signal: AbortSignal
  /** seconds until one try is given up; without it, the connection's */
  seconds?: number
}

/** How long to go on trying. */
export interface Patience {
  /** further tries at most */
  retries?: number
  /** seconds since the first try after which there is no further one */
  retrySeconds?: number
}

/** A request with its body as it goes over the wire. */
export interface WireRequest extends RequestOptions {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** below /api2/json, encoded */
  path: string
  query?: string
  contentType?: string
  body?: string | AsyncIterable<Uint8Array>
  headers?: Record<string, string>
}

/** Seconds for one request. Proxmox itself gives up on another node after 30 s, and waits 10 s for a lock. */
const REQUEST_SECONDS = 60

/** Waits of 0.1, 0.2, 0.4, 0.8, 1.6 and 2 s: a restart of pveproxy takes about that. */
const RETRY = { retries: 6, minTimeout: 100, maxTimeout: 2000, factor: 2 }

/** For the very first request: somebody waits for the answer. A host that does not answer at all costs 10 s once. */
export const FIRST_REQUEST: Patience = { retries: 2, retrySeconds: 5 }

/** Sends requests to one Proxmox, with credentials, deadlines, and repetition where that is harmless. */
export class Engine implements AsyncDisposable {
  readonly origin: string
  readonly agent: ProvenAgent
  readonly session: Session
  readonly clock = new ServerClock()
  /** state-changing requests so far, logins not among them */
  writes = 0
  readonly #seconds: number
  readonly #ended: AbortSignal | undefined
  readonly #secrets = new SecretRegistry()

  constructor(c: {
    endpoint: string
    auth: Credentials
    tls: TlsTrust
    requestSeconds?: number
    ended?: AbortSignal
  }) {
    this.origin = originOf(c.endpoint)
    this.agent = new ProvenAgent(c.tls)
    this.#seconds = c.requestSeconds ?? REQUEST_SECONDS
    this.#ended = c.ended
    this.session = createSession(c.auth, (form, signal) => this.#login(form, signal), this.#secrets)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.agent.destroy()
  }

  /**
   * One API call. `params` go into the query of GET and DELETE and into the form of POST and PUT; booleans
   * become 0 and 1, arrays repeat their key, undefined is left out.
   * @throws PveError, or the signal's own reason
   */
  async request(
    method: string,
    path: string,
    params: Record<string, unknown>,
    options: RequestOptions & Patience,
  ): Promise<Envelope> {
    if (method !== 'GET' && method !== 'POST' && method !== 'PUT' && method !== 'DELETE') {
      throw new TypeError(`${method} is no method of the Proxmox API`)
    }
    const text = formOf(params)
    const inBody = method === 'POST' || method === 'PUT'
    const wire: WireRequest = {
      ...options,
      method,
      path: encodePath(path),
      ...(text !== '' && !inBody && { query: text }),
      // An empty form must have no content type either.
      ...(text !== '' && inBody && { body: text, contentType: 'application/x-www-form-urlencoded' }),
    }
    if (method !== 'GET') this.writes += 1
    const attempt = () => {
      this.#ended?.throwIfAborted()
      return this.#authorized(wire)
    }
    return pRetry(attempt, {
      ...RETRY,
      retries: options.retries ?? RETRY.retries,
      maxRetryTime: (options.retrySeconds ?? Number.POSITIVE_INFINITY) * 1000,
      signal: options.signal,
      // What may have been carried out is repeated only where that changes nothing.
      shouldRetry: ({ error }) =>
        error instanceof PveError && error.passing && (method === 'GET' || error.delivery === 'unsent'),
    })
  }

  /** With credentials. A 401 comes before anything is done, so after a new login any call may be sent again. */
  async #authorized(wire: WireRequest): Promise<Envelope> {
    const headers = await this.session.headers(wire.method !== 'GET', wire.signal)
    try {
      return await this.send({ ...wire, headers })
    } catch (error) {
      if (!(error instanceof PveError && error.status === 401 && this.session.expire(headers))) throw error
      return this.send({
        ...wire,
        headers: await this.session.headers(wire.method !== 'GET', wire.signal),
      })
    }
  }

  async #login(form: Record<string, string>, signal: AbortSignal): Promise<TicketAnswer> {
    const wire: WireRequest = {
      method: 'POST',
      path: '/access/ticket',
      contentType: 'application/x-www-form-urlencoded',
      body: formOf(form),
      signal,
    }
    // Logging in twice harms nobody.
    const { data } = await pRetry(() => this.send(wire), {
      ...RETRY,
      retries: 2,
      signal,
      shouldRetry: ({ error }) => error instanceof PveError && error.passing,
    })
    return data as TicketAnswer
  }

  /** One exchange, no repetition. */
  async send(wire: WireRequest): Promise<Envelope> {
    const { method, path } = wire
    const seconds = wire.seconds ?? this.#seconds
    wire.signal.throwIfAborted()
    using signal = withDeadline(wire.signal, seconds, `${method} ${path}`)
    try {
      const answer = await exchange({
        agent: this.agent,
        url: new URL(`${this.origin}/api2/json${path}${wire.query ? `?${wire.query}` : ''}`),
        method,
        headers: {
          accept: 'application/json',
          ...(wire.contentType && { 'content-type': wire.contentType }),
          ...wire.headers,
        },
        ...(wire.body !== undefined && { body: wire.body }),
        signal,
      })
      this.clock.heard(answer.date)
      return this.#understand(wire, answer)
    } catch (error) {
      if (error instanceof PveError) throw error
      wire.signal.throwIfAborted()
      throw this.#lost(wire, signal.aborted ? signal.reason : error, signal.aborted)
    }
  }

  #understand(wire: WireRequest, answer: Answer): Envelope {
    const { method, path } = wire
    const { status, statusText } = answer
    const json = answer.contentType.startsWith('application/json')
    const body = json ? parse(answer.text) : undefined
    if (status === 200 && body) return body as unknown as Envelope
    if (status < 400) {
      throw new PveError({
        method,
        path,
        status,
        delivery: 'answered',
        code: 'unreachable',
        what: `what answers at ${this.origin} is not the Proxmox API`,
        message: `${method} ${path} gave ${status} ${statusText} and ${json ? 'broken JSON' : 'no JSON'}`,
        next: 'check the endpoint: it is https://host:8006, without a path',
      })
    }
    const fields = body?.errors as Record<string, unknown> | undefined
    throw new PveError({
      method,
      path,
      status,
      delivery: 'answered',
      reason: this.#secrets.redact(statusText),
      message: this.#secrets.redact(String(body?.message ?? statusText)),
      ...(fields && {
        fields: Object.fromEntries(
          Object.entries(fields).map(([name, wrong]) => [name, this.#secrets.redact(String(wrong))]),
        ),
      }),
    })
  }

  #lost(wire: WireRequest, error: unknown, late: boolean): PveError {
    const { method, path } = wire
    const cause = error as Error
    const unsent = cause instanceof ConnectFailure
    return new PveError({
      method,
      path,
      delivery: unsent ? 'unsent' : 'unknown',
      code: 'unreachable',
      what: unsent
        ? `Proxmox at ${this.origin} cannot be reached`
        : `the connection to Proxmox at ${this.origin} was lost during ${method} ${path}`,
      message: this.#secrets.redact(cause.message),
      next: (unsent && cause.next) || 'is the node up, and the network to it? try again in a moment',
      passing: unsent ? cause.passing : !late,
      cause,
    })
  }
}

/**
 * The origin of an endpoint. Where it names no port, Proxmox's own (8006) is meant.
 * @throws ImagebuildError `definition_invalid`
 */
export function originOf(endpoint: string): string {
  const wrong = (why: string) =>
    new ImagebuildError({
      code: 'definition_invalid',
      what: `the endpoint ${endpoint} is not one`,
      why,
      next: 'write it as https://host:8006',
    })
  if (!URL.canParse(endpoint)) throw wrong('it is no URL')
  const url = new URL(endpoint)
  if (url.protocol !== 'https:') throw wrong('Proxmox speaks https only')
  if (url.username || url.password) throw wrong('credentials do not belong into it')
  if (!/^\/?(api2(\/json)?\/?)?$/.test(url.pathname) || url.search || url.hash) throw wrong('it has a path')
  const named = /^https:\/\/[^/]*:\d+(\/|$)/i.test(endpoint)
  return named ? url.origin : `https://${url.hostname}:8006`
}

/** The proxy escapes no more than slashes within a segment; the rest of what a URL cannot carry is done here. */
export function encodePath(path: string): string {
  const segments = path.split('/').slice(1)
  return segments
    .map((segment) => {
      const plain = segment.replaceAll('%2F', '/')
      if (plain === '' || plain === '.' || plain === '..') {
        throw new TypeError(`${path} has an empty or relative segment`)
      }
      return `/${encodeURIComponent(plain)}`
    })
    .join('')
}

function formOf(params: Record<string, unknown>): string {
  const form = new URLSearchParams()
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined) continue
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item === null || typeof item === 'object') throw new TypeError(`${name} cannot be sent as a form`)
      form.append(name, typeof item === 'boolean' ? (item ? '1' : '0') : String(item))
    }
  }
  return form.toString()
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
