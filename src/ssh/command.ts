import { randomBytes } from 'node:crypto'
import type { Duplex, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ImagebuildError } from '../core/errors.ts'
import { RunningTimer } from '../core/running-timer.ts'
import { DeadlineError, sleep, withDeadline } from '../core/scope.ts'
import { killScript, remoteScript } from './remote-script.ts'

/** Running one command over a connection, to whatever end it comes. */

/** A started command as the SSH library hands it over: standard input and output, and stderr beside them. */
export type CommandChannel = Duplex & { readonly stderr: Readable; close(): void }

/** One live connection. */
export interface Connection {
  /** starts a command */
  exec(commandLine: string): Promise<CommandChannel>
  /** resolves, with the reason, when it is no more */
  readonly closed: Promise<Error>
  /** closes it; does not wait for a guest that hangs */
  end(): Promise<void>
}

export interface CommandOptions {
  /** deadline; whatever the command started is killed then */
  seconds: number
  signal?: AbortSignal
  /** reaches the command's environment without being seen in any process's arguments */
  env?: Readonly<Record<string, string>>
  /** what the command reads; nothing by default */
  stdin?: string | Readable
  /** as root, by `sudo -n` */
  sudo?: boolean
}

export interface CommandOutput {
  /** may give a promise: until it is resolved, the guest's output waits */
  onStdout(chunk: Buffer): void | Promise<void>
  onStderr(chunk: Buffer): void
  /** the last lines so far, for an error */
  tail(): string[]
}

/**
 * Milliseconds without output after which a command that has exited is taken as finished although something
 * it left behind (a daemon, a job in the background) still holds its output open. OpenSSH's client would wait for ever.
 */
const LINGER_MILLISECONDS = 1000

/** Exit codes of processes that a signal ended are 128 plus its number, as in a shell; signal(7). */
const SIGNALS: Record<string, number> = {
  HUP: 1,
  INT: 2,
  QUIT: 3,
  ILL: 4,
  ABRT: 6,
  FPE: 8,
  KILL: 9,
  USR1: 10,
  SEGV: 11,
  USR2: 12,
  PIPE: 13,
  ALRM: 14,
  TERM: 15,
}

/** Milliseconds that a command past its deadline is given to be killed before we stop waiting for that. */
const KILL_MILLISECONDS = 2000

/**
 * Runs a command as `sh -c` would.
 * @returns its exit code, 128 + n if signal n ended it
 * @throws ImagebuildError `build_failed` if the connection is lost, the deadline passes or no shell starts;
 *   the signal's reason; what reading `stdin` throws
 */
export async function runCommand(
  connection: Connection,
  command: string,
  options: CommandOptions,
  output: CommandOutput,
): Promise<number> {
  const mark = `imagebuild${randomBytes(8).toString('hex')}`
  const { commandLine, preamble } = remoteScript(command, { ...options, mark })
  using signal = withDeadline(options.signal, options.seconds, 'a command in the guest')
  signal.throwIfAborted()
  const abort = Promise.withResolvers<never>()
  const onAbort = () => abort.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  const failure = (what: string, why: string, cause?: unknown) =>
    new ImagebuildError({
      code: 'build_failed',
      what,
      why: `${why} (${gist(command)})`,
      output: output.tail(),
      cause,
    })
  const lost = connection.closed.then((cause) => {
    throw failure('the SSH connection to the guest was lost', cause.message, cause)
  })

  let session: number | undefined
  const stderr = new MarkFilter(
    mark,
    (id) => {
      session = id
    },
    output.onStderr,
  )
  const work = async () => {
    const channel = await connection.exec(commandLine).catch((error: Error) => {
      // The library says so a moment before the connection's own end is known.
      if (/not connected|no response/i.test(error.message)) return lost
      throw failure('the guest takes no further command', error.message, error)
    })
    try {
      return await finish(channel, preamble, options.stdin, output.onStdout, (chunk) => stderr.write(chunk))
    } finally {
      stderr.end()
    }
  }
  try {
    // A channel that closes without an exit code goes before the news that its connection is lost.
    const code = await Promise.race([work().then((code) => code ?? lost), lost, abort.promise])
    if (session === undefined) throw failure('the guest starts no shell', `exit code ${code}`)
    return code
  } catch (error) {
    // Asked now: the deadline may pass while we kill.
    const { aborted } = signal
    if (session !== undefined) await kill(connection, session, options.sudo === true)
    if (!aborted) throw error
    if (!(signal.reason instanceof DeadlineError)) throw signal.reason
    throw failure(signal.reason.message, 'it was killed', signal.reason)
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** As far as it can be done: the connection may be the reason why it must be. */
async function kill(connection: Connection, session: number, sudo: boolean): Promise<void> {
  const { commandLine, preamble } = remoteScript(killScript(session), { sudo, mark: 'imagebuildkill' })
  const patience = new AbortController()
  const killing = connection
    .exec(commandLine)
    .then((channel) => finish(channel, preamble, '', ignore, ignore))
  // What goes wrong here is told by the error that made us kill.
  await Promise.race([
    killing.catch(ignore),
    connection.closed,
    sleep(KILL_MILLISECONDS, patience.signal).catch(ignore),
  ])
  patience.abort()
}

function ignore(): void {}

/** Enough of a command to know it again. */
function gist(command: string): string {
  const line = command.trim().split('\n', 1)[0] as string
  return `\`${line.length > 80 ? `${line.slice(0, 79)}…` : line}\``
}

/** Feeds a started command and reads it to its end; undefined if its channel closes without an exit code. */
async function finish(
  channel: CommandChannel,
  preamble: Buffer,
  stdin: string | Readable | undefined,
  onStdout: CommandOutput['onStdout'],
  onStderr: (chunk: Buffer) => void,
): Promise<number | undefined> {
  const done = Promise.withResolvers<number | undefined>()
  let code: number | undefined
  let linger: RunningTimer | undefined
  let waiting = 0
  let closed = false
  const whenQuiet = () => {
    linger?.[Symbol.dispose]()
    if (waiting > 0) return
    // The channel may close while what it brought is still being taken.
    if (closed && channel.readableLength === 0 && channel.stderr.readableLength === 0)
      return done.resolve(code)
    if (code === undefined) return
    linger = new RunningTimer(LINGER_MILLISECONDS, () => done.resolve(code))
  }
  const read = (stream: Readable, onChunk: CommandOutput['onStdout']) =>
    stream.on('data', (chunk: Buffer) => {
      const taken = onChunk(chunk)
      if (taken !== undefined) {
        waiting += 1
        stream.pause()
        taken.then(() => {
          waiting -= 1
          stream.resume()
          whenQuiet()
        }, done.reject)
      }
      whenQuiet()
    })
  read(channel, onStdout)
  read(channel.stderr, onStderr)
  channel.on('exit', (status: number | null, signal?: string) => {
    code = status ?? 128 + (SIGNALS[(signal ?? '').replace(/^SIG/, '')] ?? 0)
    whenQuiet()
  })
  channel.on('close', () => {
    closed = true
    whenQuiet()
  })
  channel.on('error', ignore)
  feed(channel, preamble, stdin).catch((error: NodeJS.ErrnoException) => {
    // A command that ends without reading its input is no failure of the input.
    if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE' && error.code !== 'EPIPE') done.reject(error)
  })
  try {
    return await done.promise
  } finally {
    linger?.[Symbol.dispose]()
    channel.close()
  }
}

async function feed(
  channel: CommandChannel,
  preamble: Buffer,
  stdin: string | Readable | undefined,
): Promise<void> {
  channel.write(preamble)
  if (stdin === undefined || typeof stdin === 'string') channel.end(stdin ?? '')
  else await pipeline(stdin, channel)
}

/**
 * Takes the line `mark <number>` out of a stream of bytes, wherever its chunks are cut; a login shell may
 * have printed something before it.
 */
export class MarkFilter {
  readonly #mark: string
  readonly #onMark: (value: number) => void
  readonly #onChunk: (chunk: Buffer) => void
  #held: Buffer | undefined = Buffer.alloc(0)

  constructor(mark: string, onMark: (value: number) => void, onChunk: (chunk: Buffer) => void) {
    this.#mark = mark
    this.#onMark = onMark
    this.#onChunk = onChunk
  }

  write(chunk: Buffer): void {
    if (!this.#held) {
      this.#onChunk(chunk)
      return
    }
    this.#held = Buffer.concat([this.#held, chunk])
    const start = this.#held.indexOf(this.#mark)
    const end = start < 0 ? -1 : this.#held.indexOf('\n', start)
    if (end < 0) return
    const rest = Buffer.concat([this.#held.subarray(0, start), this.#held.subarray(end + 1)])
    this.#onMark(Number(this.#held.toString('latin1', start + this.#mark.length, end)))
    this.#held = undefined
    if (rest.length > 0) this.#onChunk(rest)
  }

  /** The stream has ended: what was held back belongs to it after all. */
  end(): void {
    if (this.#held && this.#held.length > 0) this.#onChunk(this.#held)
    this.#held = undefined
  }
}
