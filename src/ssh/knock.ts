import { connect, type Socket } from 'node:net'

/**
 * The first moment of an SSH connection: TCP, and the line by which a server says that it speaks SSH
 * (RFC 4253, section 4.2). Kept apart from the handshake since both fail for other reasons and want other
 * patience: a guest that is still booting does not answer to ARP or refuses; an emulated one that has
 * answered may need seconds for its first key exchange.
 */

/** Milliseconds for TCP alone. Shorter than the kernel's own SYN repeats (1, 2, 4 s), which get rarer while a guest boots. */
const TCP_MILLISECONDS = 1500

/** Milliseconds from TCP to the SSH banner; with socket activation, sshd starts only now. */
const BANNER_MILLISECONDS = 10_000

export class KnockError extends Error {
  override readonly name = 'KnockError'
  /** true if TCP was established, so that something listens there */
  readonly connected: boolean

  constructor(message: string, connected: boolean) {
    super(message)
    this.connected = connected
  }
}

/**
 * Connects and waits for the banner, which stays readable in the socket (paused).
 * @throws KnockError in a person's words, or the signal's reason
 */
export async function knock(address: string, port: number, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted()
  const socket = connect({ host: address, port, noDelay: true })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let connected = false
  let received = Buffer.alloc(0)
  const fail = (message: string) => reject(new KnockError(message, connected))
  let timer = setTimeout(() => fail(`no answer from ${address} port ${port}`), TCP_MILLISECONDS)
  const onAbort = () => reject(signal.reason)
  const onError = (error: NodeJS.ErrnoException) => fail(describe(error, address, port))
  const onEnd = () => fail(`port ${port} closes the connection before it says anything`)
  const onData = (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    const text = received.toString('latin1')
    // A server may send other lines before its version (RFC 4253, section 4.2).
    if (/^SSH-(2\.0|1\.99)-/m.test(text)) resolve()
    else if (received.length > 8192)
      fail(`port ${port} answers, but not with SSH: ${JSON.stringify(text.slice(0, 40))}`)
  }
  signal.addEventListener('abort', onAbort, { once: true })
  socket.on('error', onError).on('end', onEnd).on('close', onEnd).on('data', onData)
  socket.once('connect', () => {
    connected = true
    clearTimeout(timer)
    timer = setTimeout(() => fail(`port ${port} is open, but no SSH server answers`), BANNER_MILLISECONDS)
  })
  let ok = false
  try {
    await promise
    ok = true
    socket.pause()
    socket.unshift(received)
    return socket
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
    socket.off('end', onEnd).off('close', onEnd).off('data', onData)
    if (ok) socket.off('error', onError)
    else socket.on('error', () => {}).destroy()
  }
}

export interface Reach {
  /** something accepts TCP connections there */
  connected: boolean
  /** the SSH server's version line, if one answered: `SSH-2.0-OpenSSH_9.2p1 …` */
  banner?: string
  /** why not */
  why?: string
}

/**
 * Does an SSH server answer there? One try, for diagnosis. OpenSSH from 9.8 on counts a visit without a
 * login as a small offence (PerSourcePenalties, 1 s each, refused from 15 s): do not call it in a loop.
 */
export async function reachSsh(address: string, port: number, signal: AbortSignal): Promise<Reach> {
  try {
    const socket = await knock(address, port, signal)
    const text = (socket.read() as Buffer | null)?.toString('latin1') ?? ''
    socket.on('error', () => {}).destroy()
    return { connected: true, banner: /^SSH-.*/m.exec(text)?.[0].trim() ?? '' }
  } catch (error) {
    signal.throwIfAborted()
    return { connected: (error as KnockError).connected, why: (error as Error).message }
  }
}

function describe(error: NodeJS.ErrnoException, address: string, port: number): string {
  switch (error.code) {
    case 'ECONNREFUSED':
      return `${address} is up, but port ${port} refuses connections`
    case 'EHOSTUNREACH':
      return `${address} does not answer (no route, or no answer to ARP)`
    case 'ENETUNREACH':
      return `there is no route from here to ${address}`
    case 'ECONNRESET':
      return `${address} resets the connection`
    default:
      return error.message
  }
}
