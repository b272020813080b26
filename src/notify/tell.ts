import { asImagebuildError } from '../core/errors.ts'
import type { Channel, Ci } from '../definition/ci-schema.ts'
import { sendByApprise } from './apprise.ts'
import type { NotifyContext } from './context.ts'
import { pingEnd, pingStart } from './dead-man.ts'
import { sendByMail } from './mail.ts'
import { composeMessage, type Message } from './message.ts'
import { writeMetrics } from './metrics.ts'
import { sendByNtfy } from './ntfy.ts'
import { occasionsOf, type RunReport } from './report.ts'
import { sendByWebhook } from './webhook.ts'

/**
 * A scheduled run tells that it begins and how it ended. Nothing here throws: a message that cannot be sent is a
 * warning, and the run's result stays what it is.
 */

/** @param run a UUID, by which a dead man's switch knows that start and end belong together */
export async function tellStart(ci: Ci, run: string, ctx: NotifyContext): Promise<void> {
  await attemptAll(
    ci.ping.map((at) => () => pingStart(at, run, ctx)),
    ctx,
  )
}

/** Pings and metrics always; messages only on the occasions that their channels are for. */
export async function tellEnd(ci: Ci, run: string, report: RunReport, ctx: NotifyContext): Promise<void> {
  const { notify, ping, metrics } = ci
  // A failed command may have quoted a secret of the build, and a message leaves this machine. What is cut or joined before
  // it is redacted would keep its half.
  const shown = ctx.secrets.redactDeep(report)
  const message = composeMessage(shown)
  const occasions = occasionsOf(shown)
  await attemptAll(
    [
      ...ping.map((at) => () => pingEnd(at, run, shown, message, ctx)),
      ...notify
        .filter(({ on }) => on.some((occasion) => occasions.includes(occasion)))
        .map((channel) => () => sendBy(channel, message, shown, ctx)),
      ...(metrics === undefined ? [] : [() => writeMetrics(metrics, shown)]),
    ],
    ctx,
  )
}

async function sendBy(
  channel: Channel,
  message: Message,
  report: RunReport,
  ctx: NotifyContext,
): Promise<void> {
  switch (channel.kind) {
    case 'apprise':
      return sendByApprise(channel, message, ctx)
    case 'ntfy':
      return sendByNtfy(channel, message, ctx)
    case 'webhook':
      return sendByWebhook(channel, message, report, ctx)
    case 'mail':
      return sendByMail(channel, message, report.ended, ctx)
  }
}

/** All at once; each that fails is said. */
async function attemptAll(
  works: readonly (() => Promise<void>)[],
  { emit, signal }: NotifyContext,
): Promise<void> {
  await Promise.all(
    works.map(async (work) => {
      try {
        await work()
      } catch (thrown) {
        const error = asImagebuildError(signal.aborted ? signal.reason : thrown)
        const next = error.next === undefined ? '' : ` (${error.next})`
        emit({ type: 'warning', message: `${error.message}${next}; the run itself is not affected` })
      }
    }),
  )
}
