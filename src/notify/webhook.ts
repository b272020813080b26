import { SecretRegistry } from '../core/secrets.ts'
import type { WebhookChannel } from '../definition/ci-schema.ts'
import { withoutMarkup } from './chat.ts'
import type { NotifyContext } from './context.ts'
import { send } from './exchange.ts'
import { type Message, textOf } from './message.ts'
import { NotSent } from './not-sent.ts'
import { occasionsOf, type RunReport } from './report.ts'
import { reveal } from './secret.ts'
import { hideAddress, readAddress } from './secret-address.ts'

/** The report as JSON. `text` is what Slack, Mattermost and Rocket.Chat show of it. */
export async function sendByWebhook(
  channel: WebhookChannel,
  message: Message,
  report: RunReport,
  ctx: NotifyContext,
): Promise<void> {
  const hidden = new SecretRegistry()
  const address = await reveal(channel.url, hidden, ctx)
  const { url, shown } = readAddress(address, channel.url, 'the message by webhook')
  hideAddress(url, hidden)
  const what = `the message by webhook (${shown})`
  const headers: Record<string, string> = { 'content-type': 'application/json' }
  for (const [name, reference] of Object.entries(channel.headers)) {
    const value = await reveal(reference, hidden, ctx)
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) {
      const why = `what ${reference} gives cannot be the header ${name}`
      throw new NotSent({ what, why, next: 'a header is one line, without control characters' })
    }
    headers[name.toLowerCase()] = value
  }
  const body = JSON.stringify({
    type: 'ci.report',
    schema: 1,
    title: message.title,
    text: withoutMarkup(`${message.title}\n${textOf(message)}`),
    occasions: occasionsOf(report),
    ...report,
  })
  await send({ what, url, headers, body, hidden }, () => undefined, ctx)
}
