import type { Dispatcher } from 'undici'
import { DeadlineError, sleep, withDeadline } from '../core/scope.ts'
import type { SecretRegistry } from '../core/secrets.ts'
import type { NotifyContext } from './context.ts'
import { oneLine } from './message.ts'
import { NotSent } from './not-sent.ts'

/** Seconds for one try. The Apprise API answers when it has reached all of its services, one of which may be slow. */
const TRY_SECONDS = 30
/** Seconds before the second and the third try; there is no fourth. */
const WAITS = [2, 8] as const
/** Seconds at most that a server's Retry-After is waited for: a run must end. */
const MAX_WAIT = 60
/** Bytes of an answer that are read; one that is longer tells nothing more. */
const MAX_ANSWER = 16 * 1024
/** Characters of the server's own words that are repeated. */
const MAX_WORDS = 200

export interface Outgoing {
  /** what is sent and to whom, without a secret: `the message to ntfy (https://ntfy.sh)` */
  what: string
  url: URL
  /** POST when missing */
  method?: 'GET'
  headers?: Record<string, string>
  body?: string
  /** what must not be repeated, should the answer or an error quote it */
  hidden: SecretRegistry
}

export interface Answer {
  status: number
  body: string
}

/** Why an answer is a failure, and what to do. */
export interface Verdict {
  why: string
  /** the server's own words, which end the sentence */
  said?: string
  next: string
}

/** Undefined where the answer is no failure, or nothing special is known of it. */
export type Judge = (answer: Answer) => Verdict | undefined

/**
 * One request, tried three times where it may help. A message may arrive twice when its answer was lost: better than never.
 * Redirects are not followed, since the next server would get what is secret.
 * @param judge knows this server's contract; what it does not know is judged by the status alone
 * @throws NotSent
 */
export async function send(outgoing: Outgoing, judge: Judge, ctx: NotifyContext): Promise<Answer> {
  const pause = ctx.pause ?? sleep
  for (let tries = 1; ; tries++) {
    try {
      return await attempt(outgoing, judge, ctx)
    } catch (error) {
      const wait = WAITS[tries - 1]
      if (!(error instanceof NotSent) || !error.passing || wait === undefined) throw error
      if ((error.afterSeconds ?? 0) > MAX_WAIT) throw error
      await pause(Math.max(wait, error.afterSeconds ?? 0) * 1000, ctx.signal)
    }
  }
}

async function attempt(outgoing: Outgoing, judge: Judge, ctx: NotifyContext): Promise<Answer> {
  const { url, what, hidden, method = 'POST' } = outgoing
  const { EnvHttpProxyAgent } = await import('undici')
  const agent = new EnvHttpProxyAgent()
  try {
    using signal = withDeadline(ctx.signal, ctx.trySeconds ?? TRY_SECONDS, 'the answer')
    const response = await agent.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method,
      headers: { 'user-agent': 'imagebuild', ...authorization(url), ...outgoing.headers },
      ...(method === 'POST' && { body: outgoing.body ?? '' }),
      signal,
    })
    const answer = { status: response.statusCode, body: await beginning(response.body) }
    refuse(answer, response.headers, outgoing, judge)
    return answer
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (error instanceof NotSent) throw error
    const { code, message } = error as { code?: string; message?: string }
    const late = error instanceof DeadlineError
    throw new NotSent({
      what,
      why: late ? 'the server gave no answer in time' : repeated(message || code || String(error), hidden),
      next: 'check the address and the network (and http_proxy, https_proxy, no_proxy)',
      passing: true,
    })
  } finally {
    await agent.destroy().catch(() => {})
  }
}

/** Nothing where the answer is a success. */
function refuse(
  answer: Answer,
  headers: Dispatcher.ResponseData['headers'],
  outgoing: Outgoing,
  judge: Judge,
): void {
  const { what, hidden } = outgoing
  const { status } = answer
  const known = judge(answer)
  const passing = status === 429 || status >= 500
  const asked = passing ? retryAfter(headers) : undefined
  const late = asked !== undefined && asked > MAX_WAIT ? `; it asks to try again after ${asked} s` : ''
  const facts = { what, passing, ...(asked !== undefined && { afterSeconds: asked }) }
  if (known !== undefined) {
    throw new NotSent({
      ...facts,
      why: known.why + repeated(known.said ?? '', hidden, ': ') + late,
      next: known.next,
    })
  }
  if (status >= 200 && status < 300) return
  throw new NotSent({
    ...facts,
    why: `the server answers ${status}${repeated(words(answer.body), hidden, ': ')}${late}`,
    next: usualStep(status),
  })
}

function usualStep(status: number): string {
  if (status >= 300 && status < 400)
    return 'redirects are not followed: write the address that this one leads to'
  if (status === 401 || status === 403) return 'check token, password or headers, and what they may do there'
  if (status === 404 || status === 410) return 'check the address: the server does not know it'
  if (status === 429) return 'the server takes no more for now: send less often, or ask for a higher limit'
  if (status >= 500) return 'look at the server’s log'
  return 'the server does not take what was sent: look at its log and version'
}

/** What a server says of itself: the field that its JSON has for that, or a short plain text. */
function words(body: string): string {
  try {
    const { error, msg, message } = JSON.parse(body) as Record<string, unknown>
    return [error, msg, message].find((one) => typeof one === 'string') ?? ''
  } catch {
    return body.trimStart().startsWith('<') ? '' : body
  }
}

/** Text from outside, in one line, short, and without what is hidden; with `before`, if there is any. */
function repeated(text: string, hidden: SecretRegistry, before = ''): string {
  const line = oneLine(hidden.redact(text))
  if (line === '') return ''
  return before + (line.length <= MAX_WORDS ? line : `${line.slice(0, MAX_WORDS).toWellFormed()}…`)
}

/** Seconds (RFC 9110, 10.2.3): a number, or a date, which is judged by the server's own clock. */
function retryAfter(headers: Dispatcher.ResponseData['headers']): number | undefined {
  const text = String(headers['retry-after'] ?? '').trim()
  if (/^\d{1,9}$/.test(text)) return Number(text)
  const [then, now] = [Date.parse(text), Date.parse(String(headers.date ?? ''))]
  return Number.isNaN(then) || Number.isNaN(now) ? undefined : Math.max(0, Math.ceil((then - now) / 1000))
}

/** Name and password of an address are a header of their own. */
function authorization({ username, password }: URL): Record<string, string> {
  if (username === '' && password === '') return {}
  return basic(decodeURIComponent(username), decodeURIComponent(password))
}

export function basic(username: string, password: string): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }
}

async function beginning(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body) {
    chunks.push(chunk)
    size += chunk.length
    if (size >= MAX_ANSWER) break
  }
  return Buffer.concat(chunks).subarray(0, MAX_ANSWER).toString()
}
