import { connect, type Socket } from 'node:net'
import { createInterface } from 'node:readline'

interface Reply {
  return?: unknown
  error?: { class: string; desc: string }
  id?: number
  event?: string
  QMP?: unknown
}

/** A connection to QEMU's monitor (docs/interop/qmp-spec). QEMU serves one at a time; it closes when QEMU ends. */
export class Qmp {
  /** resolves when QEMU has gone, or closed the connection */
  readonly closed: Promise<void>
  readonly #socket: Socket
  readonly #waiting = new Map<number, (reply: Reply) => void>()
  #serial = 0
  #isClosed = false

  private constructor(socket: Socket) {
    this.#socket = socket
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#isClosed = true
        for (const answer of this.#waiting.values())
          answer({ error: { class: 'Closed', desc: 'QEMU has ended' } })
        resolve()
      })
    })
    const lines = createInterface({ input: socket })
    // It repeats the socket's errors, which are followed by the socket's close.
    lines.on('error', () => undefined)
    lines.on('line', (line) => {
      const reply = JSON.parse(line) as Reply
      if (reply.id === undefined) return
      this.#waiting.get(reply.id)?.(reply)
    })
  }

  static async connect(path: string): Promise<Qmp> {
    const socket = connect(path)
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    socket.on('error', () => socket.destroy())
    const qmp = new Qmp(socket)
    await qmp.command('qmp_capabilities')
    return qmp
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** @throws Error with QEMU's own words; also when QEMU ends, or does not answer within `seconds` */
  command<T = unknown>(execute: string, args?: Record<string, unknown>, seconds = 30): Promise<T> {
    if (this.#isClosed) return Promise.reject(new Error('QEMU has ended'))
    const id = ++this.#serial
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(
        () =>
          this.#waiting.get(id)?.({
            error: { class: 'Timeout', desc: `qmp command '${execute}' failed - got timeout` },
          }),
        seconds * 1000,
      )
      this.#waiting.set(id, (reply) => {
        clearTimeout(timer)
        this.#waiting.delete(id)
        if (reply.error) reject(new Error(reply.error.desc))
        else resolve(reply.return as T)
      })
      this.#socket.write(`${JSON.stringify({ execute, id, ...(args && { arguments: args }) })}\n`)
    })
  }

  close(): void {
    this.#socket.destroy()
  }
}
