import { NodeSSH } from 'node-ssh'
import { withDeadline } from '../core/scope.ts'
import type { Connection } from './command.ts'
import { GuestSession } from './guest-session.ts'
import { fingerprint, type HostKeyPin, parseHostKeyPin } from './host-key.ts'
import { knock } from './knock.ts'
import { HopelessError, LoginRefusedError, logIn } from './login.ts'
import type { Session } from './session-interface.ts'

export type { UploadOptions } from './files.ts'
export type { DownloadOptions, RebootOptions, RunOptions, RunResult, Session } from './session-interface.ts'

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
  /** seconds without an answer after which the guest is taken for gone; 60 unless given */
  silentSeconds?: number
  /** told after each try that failed; `n` counts from 1 */
  onAttempt?(n: number, reason: string): void
}

/**
 * Seconds without an answer after which a guest is taken for gone, and how many keepalives are sent in them. An
 * emulated guest on a busy machine may well be silent for a while.
 */
const SILENT_SECONDS = 60
const KEEPALIVES = 12

/** Milliseconds from the banner to the login; an emulated guest needs seconds for it. */
const HANDSHAKE_MILLISECONDS = 30_000

/** Milliseconds that a closing connection may take before it is cut. */
const END_MILLISECONDS = 500

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
  const dial = (until: AbortSignal) => connect(target, until)
  const at = `${target.host} port ${target.port}`
  const connection = await logIn(() => dial(signal), { at, signal, onAttempt: options.onAttempt })
  return new GuestSession(connection, { at, username: options.username, dial })
}

interface Target {
  host: string
  port: number
  username: string
  privateKey: string
  pin: HostKeyPin
  silentSeconds?: number
}

async function connect(target: Target, signal: AbortSignal): Promise<Connection> {
  const { username, privateKey, pin, silentSeconds = SILENT_SECONDS } = target
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
      keepaliveInterval: (silentSeconds * 1000) / KEEPALIVES,
      keepaliveCountMax: KEEPALIVES - 1,
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
    client.on('close', () => closed.resolve(describeDeath(death, silentSeconds)))
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

function describeDeath(error: Error | undefined, seconds: number): Error {
  if (!error) return new Error('the guest closed it')
  if (error.message !== 'Keepalive timeout') return error
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
