import { ImagebuildError } from '../core/errors.ts'
import { pauses } from '../core/pauses.ts'
import { sleep, withDeadline } from '../core/scope.ts'
import { quote } from '../core/shell-word.ts'
import { type CommandOptions, type Connection, runCommand } from './command.ts'
import { TRANSFER_SECONDS, type UploadOptions, uploadFile } from './files.ts'
import { logIn } from './login.ts'
import { lastLines, OutputStream } from './output.ts'
import type { DownloadOptions, RebootOptions, RunOptions, RunResult, Session } from './session-interface.ts'

/**
 * A session over one connection at a time. Where this process has paused, the connection is tried before it is used
 * again, and made anew where it has died meanwhile.
 */

/** Milliseconds that a guest is left alone to go down before we try to log in again. */
const GOING_DOWN_MILLISECONDS = 5000

/** Seconds in which the guest must answer on the old connection after a pause. */
const ANSWER_SECONDS = 10

/** Seconds for a new login where it does not; an emulated machine needs some for a handshake. */
const ANEW_SECONDS = 60

/** How to get in again. */
export interface WayIn {
  /** who is called, for errors: `192.0.2.7 port 22` */
  at: string
  username: string
  /** one try; a signal that aborts ends it */
  dial(signal: AbortSignal): Promise<Connection>
}

export class GuestSession implements Session {
  readonly #wayIn: WayIn
  readonly #lost = Promise.withResolvers<Error>()
  readonly #watching = pauses.watch()
  #connection: Connection
  /** why the connection is no more */
  #death: Error | undefined
  /** the pauses of this process after which the connection was alive */
  #seen = pauses.count
  /** the connection's end is our own doing */
  #leaving = false

  constructor(connection: Connection, wayIn: WayIn) {
    this.#wayIn = wayIn
    this.#connection = connection
    this.#watch(connection)
  }

  get lost(): Promise<Error> {
    return this.#lost.promise
  }

  async run(command: string, options: RunOptions): Promise<RunResult> {
    return runText(await this.#ready(options.signal), command, this.#become(options))
  }

  async stream(
    command: string,
    onData: (chunk: Buffer) => void | Promise<void>,
    options: CommandOptions,
  ): Promise<Omit<RunResult, 'stdout'>> {
    const stderr = new OutputStream()
    const code = await runCommand(await this.#ready(options.signal), command, this.#become(options), {
      onStdout: onData,
      onStderr: (chunk) => stderr.write(chunk),
      tail: () => lastLines(stderr.text()),
    })
    return { code, stderr: stderr.text() }
  }

  async upload(source: Uint8Array | string, remotePath: string, options: UploadOptions = {}): Promise<void> {
    await uploadFile((script, how) => this.run(script, how), source, remotePath, options)
  }

  async download(remotePath: string, options: DownloadOptions = {}): Promise<Buffer> {
    const chunks: Buffer[] = []
    const { code, stderr } = await this.stream(
      `exec cat -- ${quote(remotePath)}`,
      (chunk) => {
        chunks.push(chunk)
      },
      { seconds: TRANSFER_SECONDS, ...options },
    )
    if (code === 0) return Buffer.concat(chunks)
    throw new ImagebuildError({
      code: 'build_failed',
      what: `${remotePath} cannot be read from the guest`,
      why: stderr.trim(),
    })
  }

  async reboot(options: RebootOptions): Promise<void> {
    using signal = withDeadline(options.signal, options.seconds, 'rebooting the guest')
    const before = await bootId(await this.#ready(signal), signal)
    const old = this.#connection
    this.#leaving = true
    try {
      await this.#askToReboot(signal)
      // Not the end of the matter, only a good moment to begin: a guest may vanish without closing anything.
      await Promise.race([old.closed, sleep(GOING_DOWN_MILLISECONDS, signal)])
      this.#connection = await logIn(() => this.#wayIn.dial(signal), {
        at: `${this.#wayIn.at} after the reboot`,
        signal,
        onAttempt: options.onAttempt,
        accept: async (connection) => (await bootId(connection, signal)) !== before,
      })
    } finally {
      this.#leaving = false
      await old.end()
    }
    this.#watch(this.#connection)
  }

  async reconnect({ seconds, signal: parent }: { seconds: number; signal?: AbortSignal }): Promise<void> {
    using signal = withDeadline(parent, seconds, 'logging in again')
    const old = this.#connection
    this.#connection = await logIn(() => this.#wayIn.dial(signal), { at: this.#wayIn.at, signal })
    this.#watch(this.#connection)
    await old.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#leaving = true
    this.#watching[Symbol.dispose]()
    await this.#connection.end()
  }

  /** The connection, which after a pause may be a new one. */
  async #ready(signal: AbortSignal | undefined): Promise<Connection> {
    pauses.look()
    const { count } = pauses
    if (count !== this.#seen && !(await answers(this.#connection, signal))) {
      try {
        await this.reconnect({ seconds: ANEW_SECONDS, ...(signal && { signal }) })
      } catch (error) {
        signal?.throwIfAborted()
        // Nobody gets in any more once it is sealed; what is merely slow may answer yet.
        if (this.#death !== undefined) throw lostInPause(this.#death, error as Error)
      }
    }
    this.#seen = count
    return this.#connection
  }

  /** Who is root already needs no sudo, which small systems lack. */
  #become<T extends CommandOptions>(options: T): T {
    return this.#wayIn.username === 'root' ? { ...options, sudo: false } : options
  }

  /** The connection may die before the answer comes; whether it worked shows in the boot_id alone. */
  async #askToReboot(signal: AbortSignal): Promise<void> {
    const asked = await Promise.race([
      this.run('systemctl reboot', { seconds: 60, sudo: true, signal }).catch((error: unknown) => {
        signal.throwIfAborted()
        return error
      }),
      this.#connection.closed,
    ])
    if (asked instanceof Error || (asked as RunResult).code === 0 || (asked as RunResult).code > 128) return
    throw new ImagebuildError({
      code: 'build_failed',
      what: 'the guest refuses to reboot',
      why: (asked as RunResult).stderr.trim(),
    })
  }

  #watch(connection: Connection): void {
    this.#death = undefined
    void connection.closed.then((error) => {
      if (this.#leaving || connection !== this.#connection) return
      this.#death = error
      this.#lost.resolve(error)
    })
  }
}

async function answers(connection: Connection, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    const { code } = await runText(connection, ':', { seconds: ANSWER_SECONDS, ...(signal && { signal }) })
    return code === 0
  } catch {
    signal?.throwIfAborted()
    return false
  }
}

function lostInPause(death: Error, again: Error): ImagebuildError {
  return new ImagebuildError({
    code: 'build_failed',
    what: 'the SSH connection to the guest was lost while this process did not run',
    why: `${death.message}; and there is no new login: ${again.message}`,
    next: 'run again',
    cause: again,
  })
}

async function runText(connection: Connection, command: string, options: RunOptions): Promise<RunResult> {
  const { onLine } = options
  const stdout = new OutputStream(onLine && ((line) => onLine('stdout', line)))
  const stderr = new OutputStream(onLine && ((line) => onLine('stderr', line)))
  try {
    const code = await runCommand(connection, command, options, {
      onStdout: (chunk) => stdout.write(chunk),
      onStderr: (chunk) => stderr.write(chunk),
      tail: () => lastLines(`${stdout.text()}\n${stderr.text()}`.trim()),
    })
    return { code, stdout: stdout.text(), stderr: stderr.text() }
  } finally {
    stdout.end()
    stderr.end()
  }
}

/** A random number that the kernel draws once per boot, random(4). */
async function bootId(connection: Connection, signal: AbortSignal): Promise<string> {
  const result = await runText(connection, 'cat /proc/sys/kernel/random/boot_id', { seconds: 60, signal })
  // A guest that goes down kills this command too; what it leaves must not pass for another boot.
  if (result.code === 0 && result.stdout.length > 30) return result.stdout.trim()
  throw new ImagebuildError({
    code: 'build_failed',
    what: 'the boot_id of the guest cannot be read',
    why: result.stderr.trim() || `exit code ${result.code}`,
  })
}
