import { NodeSSH } from 'node-ssh'
import { ImagebuildError } from '../core/errors.ts'
import { sleep, withDeadline } from '../core/scope.ts'
import { type CommandOptions, type Connection, runCommand } from './command.ts'
import { TRANSFER_SECONDS, type UploadOptions, uploadFile } from './files.ts'
import { fingerprint, type HostKeyPin, parseHostKeyPin } from './host-key.ts'
import { knock } from './knock.ts'
import { HopelessError, LoginRefusedError, logIn } from './login.ts'
import { lastLines, OutputStream } from './output.ts'
import { quote } from './remote-script.ts'

/**
 * SSH into a guest: one TCP connection, a channel per command, no terminal. node-ssh makes the connection;
 * its command running is not used, since it forgets the connection's errors, takes a lost connection for
 * the end of a command, decodes UTF-8 packet by packet and keeps all output in memory.
 */

export interface SessionOptions {
  host: string
  /** default 22 */
  port?: number
  username: string
  /** OpenSSH private key */
  privateKey: string
  /** the only host key that is accepted: a public key line, or its SHA256: fingerprint */
  hostKey: string
  signal: AbortSignal
  /** seconds from now until which the guest must have let us in */
  connectSeconds: number
  /** told after each try that failed; `n` counts from 1 */
  onAttempt?(n: number, reason: string): void
}

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
  /** resolves when the connection dies; going down for `reboot` and the end of the session are no deaths */
  readonly lost: Promise<Error>
}

/** Milliseconds between keepalives, and how many may stay unanswered: a guest that vanished is missed after 14 s. */
const KEEPALIVE = { keepaliveInterval: 2000, keepaliveCountMax: 6 }

/** Milliseconds from the banner to the login; an emulated guest needs seconds for it. */
const HANDSHAKE_MILLISECONDS = 30_000

/** Milliseconds that a closing connection may take before it is cut. */
const END_MILLISECONDS = 500

/** Milliseconds that a guest is left alone to go down before we try to log in again. */
const GOING_DOWN_MILLISECONDS = 5000

/**
 * Cheap ones first. Under software emulation (`openssl speed`, 8 KiB, qemu-user 7.2) ChaCha20-Poly1305 reaches
 * 1.5 to 5 times the rate of AES-GCM, with and without AES instructions in the emulated CPU; both need no
 * MAC. The others are for guests whose sshd is hardened.
 */
const ALGORITHMS = {
  kex: [
    'curve25519-sha256',
    'curve25519-sha256@libssh.org',
    'ecdh-sha2-nistp256',
    'diffie-hellman-group16-sha512',
    'diffie-hellman-group18-sha512',
  ],
  cipher: [
    'chacha20-poly1305@openssh.com',
    'aes128-gcm@openssh.com',
    'aes256-gcm@openssh.com',
    'aes128-ctr',
    'aes256-ctr',
  ],
  hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com', 'hmac-sha2-256', 'hmac-sha2-512'],
  compress: ['none'],
}

/**
 * Logs in, trying again while the guest boots: every 250 ms while it does not answer or refuses, in growing
 * intervals when the login is refused (cloud-init may not have made the user yet).
 * @throws ImagebuildError `build_failed` at the deadline, or at once for a wrong host key or no common
 *   algorithm; the signal's reason
 */
export async function openSession(options: SessionOptions): Promise<Session> {
  const target = { ...options, port: options.port ?? 22, pin: parseHostKeyPin(options.hostKey) }
  using signal = withDeadline(options.signal, options.connectSeconds, 'logging in')
  const connection = await logIn(() => connect(target, signal), {
    at: `${target.host} port ${target.port}`,
    signal,
    onAttempt: options.onAttempt,
  })
  return new GuestSession(target, connection)
}

interface Target {
  host: string
  port: number
  username: string
  privateKey: string
  pin: HostKeyPin
}

async function connect(target: Target, signal: AbortSignal): Promise<Connection> {
  const { username, privateKey, pin } = target
  const socket = await knock(target.host, target.port, signal)
  const ssh = new NodeSSH()
  const closed = Promise.withResolvers<Error>()
  let death: Error | undefined
  let presented: Buffer | undefined
  const onAbort = () => socket.destroy()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    const ready = ssh.connect({
      sock: socket,
      username,
      privateKey,
      readyTimeout: HANDSHAKE_MILLISECONDS,
      ...KEEPALIVE,
      // Their types are string literals, which a list that is written once cannot be checked against.
      algorithms: { ...ALGORITHMS, serverHostKey: pin.algorithms } as object,
      hostVerifier: (key: Buffer) => {
        presented = key
        return pin.matches(key)
      },
    })
    const client = ssh.connection
    if (!client) throw new TypeError('node-ssh no longer makes its connection before it waits')
    // For as long as the connection lives: without a listener, a reset by the guest would end this process.
    client.on('error', (error: Error) => {
      death ??= error
    })
    client.on('close', () => closed.resolve(describeDeath(death)))
    await ready
    return {
      closed: closed.promise,
      exec: (commandLine) =>
        new Promise((resolve, reject) => {
          client.exec(commandLine, (error, channel) => (error ? reject(error) : resolve(channel)))
        }),
      async end() {
        client.end()
        const patience = setTimeout(() => socket.destroy(), END_MILLISECONDS)
        await closed.promise
        clearTimeout(patience)
      },
    }
  } catch (error) {
    socket.destroy()
    signal.throwIfAborted()
    const wrong = presented && !pin.matches(presented) ? fingerprint(presented) : undefined
    throw describeRefusal(error as Error, target, wrong)
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

function describeDeath(error: Error | undefined): Error {
  if (!error) return new Error('the guest closed it')
  if (error.message !== 'Keepalive timeout') return error
  const seconds = (KEEPALIVE.keepaliveInterval * (KEEPALIVE.keepaliveCountMax + 1)) / 1000
  return new Error(`the guest has not answered for ${seconds} s`, { cause: error })
}

function describeRefusal(error: Error & { level?: string }, target: Target, wrongKey?: string): Error {
  const answers = `port ${target.port} answers`
  if (wrongKey !== undefined) {
    return new HopelessError(
      `${answers} with the host key ${wrongKey} instead of ${target.pin.fingerprint}: either another machine ` +
        'has this address, or cloud-init did not install the key that it was given',
    )
  }
  if (error.level === 'client-authentication') {
    return new LoginRefusedError(
      `${answers}, authentication refused (there is no user ${target.username} yet, or it has another key)`,
    )
  }
  if (/no matching/i.test(error.message)) {
    return new HopelessError(`${answers}, but shares no algorithm with this client (${error.message})`)
  }
  if (error.level === 'client-timeout') return new Error(`${answers}, but the SSH handshake does not end`)
  return new Error(`${answers}, but the connection ends during the handshake (${error.message})`)
}

class GuestSession implements Session {
  readonly #target: Target
  readonly #lost = Promise.withResolvers<Error>()
  #connection: Connection
  /** the connection's end is our own doing */
  #leaving = false

  constructor(target: Target, connection: Connection) {
    this.#target = target
    this.#connection = connection
    this.#watch(connection)
  }

  get lost(): Promise<Error> {
    return this.#lost.promise
  }

  async run(command: string, options: RunOptions): Promise<RunResult> {
    return runText(this.#connection, command, options)
  }

  async upload(source: Uint8Array | string, remotePath: string, options: UploadOptions = {}): Promise<void> {
    await uploadFile((script, how) => this.run(script, how), source, remotePath, options)
  }

  async download(remotePath: string, options: DownloadOptions = {}): Promise<Buffer> {
    const chunks: Buffer[] = []
    const stderr = new OutputStream()
    const command = `exec cat -- ${quote(remotePath)}`
    const code = await runCommand(
      this.#connection,
      command,
      { seconds: TRANSFER_SECONDS, ...options },
      {
        onStdout: (chunk) => chunks.push(chunk),
        onStderr: (chunk) => stderr.write(chunk),
        tail: () => lastLines(stderr.text()),
      },
    )
    if (code === 0) return Buffer.concat(chunks)
    throw new ImagebuildError({
      code: 'build_failed',
      what: `${remotePath} cannot be read from the guest`,
      why: stderr.text().trim(),
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
      this.#connection = await logIn(() => connect(this.#target, signal), {
        at: `${this.#target.host} port ${this.#target.port} after the reboot`,
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

  async [Symbol.asyncDispose](): Promise<void> {
    this.#leaving = true
    await this.#connection.end()
  }

  /** The connection may die before the answer comes; whether it worked shows in the boot_id alone. */
  async #askToReboot(signal: AbortSignal): Promise<void> {
    const asked = await Promise.race([
      this.run('systemctl reboot', { seconds: 60, sudo: this.#target.username !== 'root', signal }).catch(
        (error: unknown) => {
          signal.throwIfAborted()
          return error
        },
      ),
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
  const { stdout } = await runText(connection, 'cat /proc/sys/kernel/random/boot_id', { seconds: 60, signal })
  return stdout.trim()
}
