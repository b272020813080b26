import { SecretRegistry } from '../core/secrets.ts'
import type { DeadManSwitch } from '../definition/ci-schema.ts'
import type { NotifyContext } from './context.ts'
import { type Judge, send } from './exchange.ts'
import { cutText, fitLines } from './fit.ts'
import type { Message } from './message.ts'
import { isSuccess, type RunReport } from './report.ts'
import { reveal } from './secret.ts'
import { hideAddress, readAddress } from './secret-address.ts'

/**
 * Dead man's switches raise an alarm when nobody pings them: also a schedule that has stopped is noticed then. That is
 * why a run pings where nothing was stale, too.
 */

/** Bytes of a ping's body that a server of one's own keeps by default; hc-ping.com keeps more. */
const MAX_BODY = 10_000
/** Bytes; it is one line of a table there. */
const MAX_KUMA_MESSAGE = 250
/** Milliseconds: a day. Uptime Kuma refuses more. */
const MAX_KUMA_PING = 86_400_000

/**
 * Says that a run begins. Uptime Kuma knows no beginning: a push there says that all is well.
 * @param run UUID, the same as at the end
 */
export async function pingStart(at: DeadManSwitch, run: string, ctx: NotifyContext): Promise<void> {
  if (at.kind === 'healthchecks') await pingHealthchecks(at, ['start'], run, '', ctx)
}

/** Says how a run ended. */
export async function pingEnd(
  at: DeadManSwitch,
  run: string,
  report: RunReport,
  message: Message,
  ctx: NotifyContext,
): Promise<void> {
  if (at.kind === 'healthchecks') {
    const body = fitLines([message.title, ...message.lines], MAX_BODY)
    await pingHealthchecks(at, signalOf(report), run, body, ctx)
  } else await pushToKuma(at, report, message, ctx)
}

/** The last part of the ping's address; success has none. */
function signalOf({ exitStatus }: RunReport): string[] {
  if (exitStatus === undefined) return ['fail']
  return exitStatus === 0 ? [] : [String(exitStatus)]
}

/** The pinging API (healthchecks.io/docs/http_api). The address may name a check by its UUID, or by key and slug. */
async function pingHealthchecks(
  at: DeadManSwitch,
  signal: readonly string[],
  run: string,
  body: string,
  ctx: NotifyContext,
): Promise<void> {
  const { url, what, hidden } = await addressOf(at, 'healthchecks', ctx)
  url.pathname = [url.pathname.replace(/\/+$/, ''), ...signal].join('/')
  url.searchParams.set('rid', run)
  const headers = { 'content-type': 'text/plain; charset=utf-8' }
  await send({ what, url, headers, body, hidden }, judgeHealthchecks(at), ctx)
}

function judgeHealthchecks({ url }: DeadManSwitch): Judge {
  const unknown = {
    why: 'the server knows no such check',
    next: `compare what ${url} gives with the ping URL that the check’s page shows`,
  }
  return ({ status, body }) => {
    if (status === 404) return unknown
    if (status === 409) {
      return {
        why: 'several checks have this slug (409)',
        next: 'use the check’s UUID, or give it a slug of its own',
      }
    }
    // Older servers say so with status 200.
    if (/^OK \(not found\)/.test(body)) return unknown
    if (/^OK \(rate limited\)/.test(body)) {
      return {
        why: 'the server did not record it: too many pings a minute',
        next: 'give each schedule a check of its own',
      }
    }
    return undefined
  }
}

/** Uptime Kuma's push monitor: `status`, `msg`, and `ping` in milliseconds as parameters of the address. */
async function pushToKuma(
  at: DeadManSwitch,
  report: RunReport,
  message: Message,
  ctx: NotifyContext,
): Promise<void> {
  const { url, what, hidden } = await addressOf(at, 'Uptime Kuma', ctx)
  const milliseconds = Math.round(report.seconds * 1000)
  url.searchParams.set('status', isSuccess(report) ? 'up' : 'down')
  url.searchParams.set('msg', cutText(message.title, MAX_KUMA_MESSAGE))
  url.searchParams.set('ping', String(Math.min(Math.max(milliseconds, 0), MAX_KUMA_PING)))
  // Version 1 answers no other method; version 2 takes all.
  await send({ what, url, method: 'GET', hidden }, judgeKuma, ctx)
}

const judgeKuma: Judge = ({ body }) => {
  const answer = ((): { ok?: unknown; msg?: unknown } => {
    try {
      return Object(JSON.parse(body))
    } catch {
      return {}
    }
  })()
  if (answer.ok === true) return undefined
  return {
    ...(typeof answer.msg === 'string'
      ? { why: 'the push was not recorded', said: answer.msg }
      : { why: 'the push was not recorded: the answer is not Uptime Kuma’s' }),
    next: 'compare the address with the push URL that the monitor’s page shows',
  }
}

async function addressOf(at: DeadManSwitch, name: string, ctx: NotifyContext) {
  const hidden = new SecretRegistry()
  const address = await reveal(at.url, hidden, ctx)
  const { url, shown } = readAddress(address, at.url, `the ping to ${name}`)
  hideAddress(url, hidden)
  return { url, what: `the ping to ${name} (${shown})`, hidden }
}
