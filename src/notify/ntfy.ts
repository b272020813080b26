import { SecretRegistry } from '../core/secrets.ts'
import type { NtfyChannel, Occasion } from '../definition/ci-schema.ts'
import type { NotifyContext } from './context.ts'
import { basic, send } from './exchange.ts'
import { bytes, cutText, fitLines } from './fit.ts'
import type { Message } from './message.ts'
import { NotSent } from './not-sent.ts'
import { reveal } from './secret.ts'

/** Bytes; a longer message becomes an attachment (docs.ntfy.sh/publish/#limitations). */
const MAX_MESSAGE = 4096
/** Bytes of the whole JSON; the server refuses a longer one: twice its limit for messages. */
const MAX_JSON = 2 * MAX_MESSAGE
/** Bytes; the documentation names no limit, and phones show less. */
const MAX_TITLE = 250
/** Bytes; an address that is longer is left in the text alone. */
const MAX_LINK = 500

/** ntfy's priorities go from 1 to 5; 3 is the default, 4 makes a phone ring longer. Tags that it knows become emojis. */
const LOOKS: Record<Occasion, { priority: number; tags: string[] }> = {
  failure: { priority: 4, tags: ['rotating_light'] },
  change: { priority: 3, tags: ['package'] },
  waiting: { priority: 3, tags: ['hourglass'] },
}

/** Published as JSON, which goes to the root of the server (docs.ntfy.sh/publish/#publish-as-json). */
export async function sendByNtfy(channel: NtfyChannel, message: Message, ctx: NotifyContext): Promise<void> {
  const what = `the message to ntfy (${channel.url})`
  const hidden = new SecretRegistry()
  const topic = await reveal(channel.topic, hidden, ctx)
  if (!/^[-\w]{1,64}$/.test(topic)) {
    const why = `what ${channel.topic} gives is no topic of ntfy`
    throw new NotSent({ what, why, next: 'a topic has 1 to 64 letters, digits, dashes and underscores' })
  }
  const { token, username, password } = channel
  await send(
    {
      what,
      url: new URL('/', channel.url),
      headers: {
        'content-type': 'application/json',
        ...(token !== undefined && { authorization: `Bearer ${await reveal(token, hidden, ctx)}` }),
        ...(username !== undefined &&
          password !== undefined &&
          basic(username, await reveal(password, hidden, ctx))),
      },
      body: publication(topic, message),
      hidden,
    },
    () => undefined,
    ctx,
  )
}

/** Within both limits: quotes and line breaks are longer in JSON than in the message. */
export function publication(topic: string, message: Message): string {
  const { about, link, lines } = message
  const short = link !== undefined && bytes(link) <= MAX_LINK ? link : undefined
  const withText = (text: string) =>
    JSON.stringify({
      topic,
      title: cutText(message.title, MAX_TITLE),
      message: text,
      ...(about !== undefined && LOOKS[about]),
      ...(short !== undefined && {
        click: short,
        actions: [{ action: 'view', label: 'Open the pull request', url: short }],
      }),
    })
  for (let room = MAX_MESSAGE; ; room -= 64) {
    const json = withText(fitLines(lines, room))
    if (bytes(json) <= MAX_JSON) return json
  }
}
