import type { Pve } from '../pve/client.ts'
import type { Guest } from '../pve/guest.ts'
import { ConsoleLines } from './console-lines.ts'

/** Lines kept of a console. */
const KEPT_LINES = 200

/**
 * Listens to a guest's console from the start of its boot, so that a boot that goes wrong can be
 * explained. Where Proxmox does not let these credentials do that, the reason is all there is.
 * Nobody waits for it: an explanation comes without the console rather than later.
 */
export class ConsoleRecorder implements Disposable {
  readonly #stop = new AbortController()
  readonly #lines: string[] = []
  readonly #text = new ConsoleLines()
  #unavailable: string | undefined

  constructor(pve: Pve, guest: Guest, onLine: (line: string) => void) {
    this.#listen(pve.withSignal(this.#stop.signal), guest, onLine).catch((error: Error) => {
      this.#unavailable ??= error.message
    })
  }

  get recorded(): { lines: readonly string[] } | { unavailable: string } {
    const { unfinished } = this.#text
    const lines = unfinished === undefined ? this.#lines : [...this.#lines, unfinished]
    return this.#unavailable !== undefined && lines.length === 0
      ? { unavailable: this.#unavailable }
      : { lines }
  }

  async #listen(pve: Pve, guest: Guest, onLine: (line: string) => void): Promise<void> {
    const console = await pve.openConsole(guest)
    if ('unavailable' in console) {
      this.#unavailable = console.unavailable
      return
    }
    using _open = console
    for await (const text of console) {
      for (const line of this.#text.read(text)) {
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
