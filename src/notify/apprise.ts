import { SecretRegistry } from '../core/secrets.ts'
import type { AppriseChannel, Occasion } from '../definition/ci-schema.ts'
import { withoutMentions } from './chat.ts'
import type { NotifyContext } from './context.ts'
import { type Judge, send } from './exchange.ts'
import { type Message, textOf } from './message.ts'
import { NotSent } from './not-sent.ts'
import { reveal } from './secret.ts'

/** Apprise's own words for what a message is about. */
const TYPES: Record<Occasion, string> = { failure: 'failure', change: 'success', waiting: 'warning' }

/** What the server lets a key be. */
const KEY = /^[\w-]{1,128}$/

/**
 * The Apprise API (github.com/caronc/apprise-api, swagger.yaml): `/notify/{key}` for a configuration that the server
 * has, `/notify` for addresses of this message, or those of the server's environment.
 */
export async function sendByApprise(
  channel: AppriseChannel,
  message: Message,
  ctx: NotifyContext,
): Promise<void> {
  const what = `the message to Apprise (${channel.url})`
  const hidden = new SecretRegistry()
  const key = channel.key && (await reveal(channel.key, hidden, ctx))
  if (key !== undefined && !KEY.test(key)) {
    const why = `what ${channel.key} gives is no key of Apprise`
    throw new NotSent({ what, why, next: 'a key has 1 to 128 letters, digits, dashes and underscores' })
  }
  const urls = channel.urls && (await reveal(channel.urls, hidden, ctx)).trim().split(/\s+/)
  const server = channel.url.replace(/\/+$/, '')
  const body = {
    // It goes on to chats. What else they would read as markup, Apprise escapes itself.
    title: withoutMentions(message.title),
    body: withoutMentions(textOf(message)),
    type: message.about === undefined ? 'info' : TYPES[message.about],
    format: 'text',
    ...(channel.tag !== undefined && { tag: channel.tag }),
    ...(urls !== undefined && { urls }),
  }
  await send(
    {
      what,
      url: new URL(key === undefined ? `${server}/notify` : `${server}/notify/${key}`),
      // Without `accept` the server answers with a page.
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify(body),
      hidden,
    },
    judgeOf(channel),
    ctx,
  )
}

function judgeOf({ key, urls }: AppriseChannel): Judge {
  return ({ status }) => {
    if (status === 204) return nothingThere(key, urls)
    if (status === 424) {
      return {
        why: 'Apprise could not send it to at least one of its addresses (424); others may have got it',
        next: 'look at the log of the Apprise server, which names them',
      }
    }
    return undefined
  }
}

/** 204: the request was right, and nobody got anything. */
function nothingThere(
  key: AppriseChannel['key'],
  urls: AppriseChannel['urls'],
): { why: string; next: string } {
  if (key !== undefined) {
    return {
      why: `Apprise has no configuration under the key that ${key} gives (204): nobody got it`,
      next: 'save one on the server under this key, or correct the key',
    }
  }
  const where = urls ?? 'APPRISE_STATELESS_URLS in the server’s environment'
  return {
    why: `Apprise found no valid address in ${where} (204): nobody got it`,
    next: 'write Apprise URLs there, one a line',
  }
}
