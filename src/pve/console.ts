import { WebSocket } from 'ws'
import { type Engine, encodePath } from './engine.ts'
import { PveError } from './errors.ts'
import { consoleCommand, type GuestRef, guestLabel } from './guest-ref.ts'
import type { Need } from './permissions.ts'

/** A guest's console while it is open: pieces of text in the order they came. Ends with the guest. */
export interface GuestConsole extends AsyncIterable<string>, Disposable {
  /** types into the console */
  send(text: string): void
}

/** Why there is no console. */
export interface NoConsole {
  unavailable: string
}

/** Seconds between signs of life; Proxmox's own terminal sends one every 30 s. */
const KEEP_ALIVE_SECONDS = 30

/** Seconds until the socket must be open and the login acknowledged. */
const OPEN_SECONDS = 15

/** Seconds in which the other side may take its leave. */
const CLOSE_SECONDS = 3

/**
 * Whether consoles open for API tokens, too. They do since termproxy has their tickets checked, with their port, at a path of
 * its own: from libpve-access-control 9.0.7 and 8.2.3 on, both of April 2026. That path is asked without most parameters, so
 * it refuses (400); where `port` is among what it refuses, or the path is not there (501), consoles are for ticket logins. To
 * try one would not do: where tokens are refused, that stands as an authentication failure in the node's log, for which tools
 * like fail2ban shut people out.
 */
async function opensForTokens(engine: Engine, signal: AbortSignal): Promise<boolean> {
  try {
    await engine.request('POST', '/access/vncticket', { port: 0 }, { signal })
  } catch (error) {
    if (!(error instanceof PveError) || (error.status !== 400 && error.status !== 501)) throw error
    return error.status === 400 && error.fields.port === undefined
  }
  return true
}

/** What whoever is not root must have for it. Nothing else fails without: errors say less then. */
export function seeConsole(vmid: number | string): Need {
  return { path: `/vms/${vmid}`, privileges: ['VM.Console'], why: 'see what a guest prints while it boots' }
}

/**
 * Opens the console of a running guest; of a VM, the serial one.
 * @throws PveError where it cannot be opened; the signal's reason. When the signal aborts later, the text ends.
 */
export async function openConsole(
  engine: Engine,
  target: GuestRef,
  options: { signal: AbortSignal; serial?: 'serial0' | 'serial1' | 'serial2' | 'serial3' },
): Promise<GuestConsole | NoConsole> {
  const { signal } = options
  const { kind, node, vmid } = target
  const { session } = engine
  if (session.kind === 'token' && !(await opensForTokens(engine, signal))) {
    return {
      unavailable:
        'this Proxmox VE opens consoles for ticket logins only; its updates do for API tokens, too',
    }
  }
  const guest = `/nodes/${node}/${kind === 'vm' ? 'qemu' : 'lxc'}/${vmid}`
  const which = kind === 'vm' ? { serial: options.serial ?? 'serial0' } : {}
  let proxy: { port: number | string; ticket: string; user: string }
  try {
    const { data } = await engine.request('POST', `${guest}/termproxy`, which, { signal })
    proxy = data as typeof proxy
  } catch (error) {
    if (!(error instanceof PveError && error.status === 403)) throw error
    const { path, privileges } = seeConsole(vmid)
    return { unavailable: `${session.user} lacks ${privileges.join(', ')} on ${path}` }
  }
  const query = new URLSearchParams({ port: String(proxy.port), vncticket: proxy.ticket })
  const path = `${encodePath(guest)}/vncwebsocket`
  const socket = new WebSocket(
    `${engine.origin.replace(/^http/, 'ws')}/api2/json${path}?${query}`,
    ['binary'],
    // The same pinned connections as for everything else.
    { agent: engine.agent, headers: await session.headers(false, signal), perMessageDeflate: false },
  )
  const stream = new SocketText(socket, signal)
  try {
    await stream.opened(`${proxy.user}:${proxy.ticket}\n`)
  } catch (cause) {
    stream[Symbol.dispose]()
    signal.throwIfAborted()
    throw new PveError({
      method: 'GET',
      path,
      delivery: 'unknown',
      code: 'unreachable',
      what: `the console of ${guestLabel(target)} on ${node} does not open`,
      message: (cause as Error).message,
      next: `see it by hand, on the node: ${consoleCommand(target)}`,
      cause,
    })
  }
  return stream
}

/**
 * Proxmox's terminal protocol. We say `user:ticket` and a newline, it says `OK`, then raw output. From us:
 * `0:bytes:text` is input, `2` a sign of life.
 */
class SocketText implements GuestConsole {
  readonly #socket: WebSocket
  readonly #decoder = new TextDecoder()
  readonly #chunks: string[] = []
  readonly #keepAlive: NodeJS.Timeout
  readonly #signal: AbortSignal
  #greeted = false
  #ended = false
  #failure = 'the connection was closed'
  #wake: () => void = () => {}

  constructor(socket: WebSocket, signal: AbortSignal) {
    this.#socket = socket
    this.#signal = signal
    socket.binaryType = 'arraybuffer'
    socket.addEventListener('message', ({ data }) => this.#receive(data))
    socket.addEventListener('error', (event) => {
      this.#failure = (event as unknown as { message?: string }).message || this.#failure
      this.#end()
    })
    socket.addEventListener('close', () => this.#end())
    signal.addEventListener('abort', this.#onAbort, { once: true })
    this.#keepAlive = setInterval(() => this.#write('2'), KEEP_ALIVE_SECONDS * 1000).unref()
  }

  readonly #onAbort = () => this[Symbol.dispose]()

  async opened(login: string): Promise<void> {
    this.#socket.addEventListener('open', () => this.#write(login))
    const late = setTimeout(() => {
      this.#failure = `no answer within ${OPEN_SECONDS} s`
      this.#end()
    }, OPEN_SECONDS * 1000)
    while (!this.#greeted && !this.#ended) await this.#change()
    clearTimeout(late)
    if (!this.#greeted) throw new Error(this.#failure)
  }

  send(text: string): void {
    this.#write(`0:${Buffer.byteLength(text)}:${text}`)
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    for (;;) {
      const chunk = this.#chunks.shift()
      if (chunk !== undefined) yield chunk
      else if (this.#ended) return
      else await this.#change()
    }
  }

  [Symbol.dispose](): void {
    this.#end()
    this.#socket.close()
    setTimeout(() => this.#socket.terminate(), CLOSE_SECONDS * 1000).unref()
  }

  #receive(data: unknown): void {
    let text = typeof data === 'string' ? data : this.#decoder.decode(data as ArrayBuffer, { stream: true })
    if (!this.#greeted) {
      if (!text.startsWith('OK')) {
        this.#failure = 'Proxmox did not accept the console ticket'
        this.#end()
        return
      }
      this.#greeted = true
      text = text.slice(2)
    }
    if (text !== '') this.#chunks.push(text)
    this.#wake()
  }

  #write(text: string): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(text)
  }

  #end(): void {
    this.#ended = true
    clearInterval(this.#keepAlive)
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#wake()
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}
