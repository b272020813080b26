import type { Pve } from '../pve/client.ts'
import type { Guest } from '../pve/guest.ts'

/** Lines kept of the serial console. */
const KEPT_LINES = 200

/**
 * Listens to a guest's console from the start of its boot, so that a boot that goes wrong can be
 * explained. Proxmox lets only tickets do that; with a token, the reason is all there is.
 */
export class ConsoleRecorder implements Disposable {
  readonly #stop = new AbortController()
  readonly #lines: string[] = []
  #unavailable: string | undefined

  constructor(pve: Pve, guest: Guest, onLine: (line: string) => void) {
    this.#listen(pve.withSignal(this.#stop.signal), guest, onLine).catch((error: Error) => {
      this.#unavailable ??= error.message
    })
  }

  get recorded(): { lines: readonly string[] } | { unavailable: string } {
    return this.#unavailable !== undefined && this.#lines.length === 0
      ? { unavailable: this.#unavailable }
      : { lines: this.#lines }
  }

  async #listen(pve: Pve, guest: Guest, onLine: (line: string) => void): Promise<void> {
    const console = await pve.openConsole(guest)
    if ('unavailable' in console) {
      this.#unavailable = console.unavailable
      return
    }
    using _open = console
    let rest = ''
    for await (const text of console) {
      const lines = (rest + text).split(/\r*\n/)
      rest = lines.pop() ?? ''
      for (const line of lines) {
        this.#lines.push(line)
        if (this.#lines.length > KEPT_LINES) this.#lines.shift()
        onLine(line)
      }
    }
  }

  [Symbol.dispose](): void {
    this.#stop.abort()
  }
}
