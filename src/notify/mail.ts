import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { orAbort, withDeadline } from '../core/scope.ts'
import type { MailChannel } from '../definition/ci-schema.ts'
import type { NotifyContext } from './context.ts'
import { type Message, oneLine, textOf } from './message.ts'
import { NotSent } from './not-sent.ts'

/** Seconds: sendmail puts a message into its queue, or hands it to a server itself. */
const SENDMAIL_SECONDS = 60
/** Characters of what sendmail says. */
const MAX_WORDS = 200

/** Mail through the program that every mail server of a Unix brings. */
export async function sendByMail(
  channel: MailChannel,
  message: Message,
  date: Date,
  ctx: NotifyContext,
): Promise<void> {
  const { sendmail, to } = channel
  const what = `the mail to ${to.join(', ')}`
  const text = await composeMail(channel, message, date)
  using signal = withDeadline(ctx.signal, SENDMAIL_SECONDS, sendmail)
  const { execa } = await import('execa')
  // -t: who gets it stands in the message; -oi: a line with a dot alone does not end it.
  const running = execa(sendmail, ['-t', '-oi'], {
    input: text,
    stdout: 'ignore',
    reject: false,
    cancelSignal: signal,
  })
  const result = await orAbort(running, signal).catch((error: Error) => {
    ctx.signal.throwIfAborted()
    // What it has started may hold its output open for longer than it lives itself.
    running.stderr.destroy()
    return new NotSent({ what, why: error.message, next: 'look at the mail server’s log' })
  })
  if (result instanceof NotSent) throw result
  if (!result.failed) return
  if (result.code === 'ENOENT' || result.code === 'EACCES') {
    const why = `${sendmail} cannot be started (${result.code})`
    throw new NotSent({
      what,
      why,
      next: 'install a mail server (msmtp-mta, nullmailer, postfix), or set `sendmail` to its program',
    })
  }
  const said = oneLine(result.stderr).slice(0, MAX_WORDS).toWellFormed()
  const end =
    result.exitCode === undefined
      ? `${sendmail} was ended by ${result.signal}`
      : `${sendmail} ends with ${result.exitCode}`
  throw new NotSent({
    what,
    why: said === '' ? end : `${end}: ${said}`,
    next: 'look at the mail server’s log and configuration',
  })
}

/** The message with headers as RFC 5322 and RFC 2047 want them. */
export async function composeMail(channel: MailChannel, message: Message, date: Date): Promise<Buffer> {
  const { createTransport } = await import('nodemailer')
  const { to, from } = channel
  const composer = createTransport({ streamTransport: true, buffer: true, newline: 'unix' })
  const { message: composed } = await composer.sendMail({
    to: to.map(mailbox),
    ...(from !== undefined && { from: mailbox(from) }),
    subject: message.title,
    date,
    messageId: `<${randomUUID()}@${hostname()}>`,
    text: `${textOf(message)}\n`,
    // No answer by a machine to a machine (RFC 3834).
    headers: { 'Auto-Submitted': 'auto-generated' },
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  return composed as Buffer
}

function mailbox(address: string) {
  return { name: '', address }
}
