import { ImagebuildError } from '../core/errors.ts'
import { sleep, withDeadline } from '../core/scope.ts'
import { type CommandOptions, type Connection, runCommand } from './command.ts'
import { TRANSFER_SECONDS, type UploadOptions, uploadFile } from './files.ts'
import { logIn } from './login.ts'
import { lastLines, OutputStream } from './output.ts'
import { quote } from './remote-script.ts'

/** What can be done with a guest once we are in. */

export interface RunOptions extends CommandOptions {
  /** told each line as it comes */
  onLine?(stream: 'stdout' | 'stderr', line: string): void
}

export interface RunResult {
  /** 128 + n if signal n ended the command */
  code: number
  /** its last MiB, under a line that says how much is left out */
  stdout: string
  stderr: string
}

export interface DownloadOptions {
  /** as root */
  sudo?: boolean
  /** default TRANSFER_SECONDS */
  seconds?: number
  signal?: AbortSignal
}

export interface RebootOptions {
  /** for all of it */
  seconds: number
  signal?: AbortSignal
  onAttempt?(n: number, reason: string): void
}

export interface Session extends AsyncDisposable {
  /**
   * Runs a command as `sh -c` would. A non-zero exit is a result, not an error.
   * @throws ImagebuildError `build_failed` if the connection is lost or the deadline passes; the signal's reason
   */
  run(command: string, options: RunOptions): Promise<RunResult>
  /**
   * Runs a command whose standard output is data of any size; what takes it may make the guest wait. A non-zero exit
   * is a result, not an error.
   * @throws as `run`, and what `onData` rejects with
   */
  stream(
    command: string,
    onData: (chunk: Buffer) => void | Promise<void>,
    options: CommandOptions,
  ): Promise<Omit<RunResult, 'stdout'>>
  /**
   * Writes a file: complete or not at all, its missing parent directories made (0755).
   * @param source the bytes, or the path of a local file
   * @throws ImagebuildError `build_failed`
   */
  upload(source: Uint8Array | string, remotePath: string, options?: UploadOptions): Promise<void>
  /**
   * Reads a file.
   * @throws ImagebuildError `build_failed` if it is not there or cannot be read
   */
  download(remotePath: string, options?: DownloadOptions): Promise<Buffer>
  /**
   * Reboots the guest and logs in again, known to be new by its boot_id (random(4)).
   * @throws ImagebuildError `build_failed` if it does not come back
   */
  reboot(options: RebootOptions): Promise<void>
  /**
   * Logs in anew and ends the old connection: proves that what was done to sshd lets us in.
   * @throws ImagebuildError `build_failed` if it does not; the old connection goes on then
   */
  reconnect(options: { seconds: number; signal?: AbortSignal }): Promise<void>
  /** resolves when the connection dies; going down for `reboot` and the end of the session are no deaths */
  readonly lost: Promise<Error>
}

/** Milliseconds that a guest is left alone to go down before we try to log in again. */
const GOING_DOWN_MILLISECONDS = 5000

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
  #connection: Connection
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
    return runText(this.#connection, command, this.#become(options))
  }

  async stream(
    command: string,
    onData: (chunk: Buffer) => void | Promise<void>,
    options: CommandOptions,
  ): Promise<Omit<RunResult, 'stdout'>> {
    const stderr = new OutputStream()
    const code = await runCommand(this.#connection, command, this.#become(options), {
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
    const before = await bootId(this.#connection, signal)
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
    await this.#connection.end()
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
    void connection.closed.then((error) => {
      if (!this.#leaving && connection === this.#connection) this.#lost.resolve(error)
    })
  }
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
