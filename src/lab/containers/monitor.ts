import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { isProcess, processOf } from '../process.ts'
import type { ContainerFiles } from './container-files.ts'

/**
 * LXC's monitor: the process that lives as long as a container, over its reboots. It titles itself, which makes it
 * recognisable for whoever comes later.
 */
export class Monitor {
  readonly pid: number
  readonly #mark: string
  readonly #socket: string
  #connection: Socket | undefined
  #letGo = false
  /** resolves when it has gone, or we have let go of it */
  readonly ended: Promise<void>

  private constructor(pid: number, mark: string, socket: string) {
    this.pid = pid
    this.#mark = mark
    this.#socket = socket
    this.ended = this.#watch()
  }

  /** undefined where no monitor of this container lives */
  static async find(lxcPath: string, name: string, files: ContainerFiles): Promise<Monitor | undefined> {
    const mark = `[lxc monitor] ${lxcPath} ${name}`
    const pid = await processOf(files.pid, mark)
    // The leading NUL: a name in the kernel's abstract namespace, not a file.
    return pid === undefined ? undefined : new Monitor(pid, mark, `\0${lxcPath}/${name}/command`)
  }

  get isLetGo(): boolean {
    return this.#letGo
  }

  /** Stops watching; the container goes on. */
  letGo(): void {
    this.#letGo = true
    this.#connection?.destroy()
  }

  /** Kills it; the kernel kills the container's init then, and with it all its processes. */
  kill(): void {
    try {
      process.kill(this.pid, 'SIGKILL')
    } catch {
      // It has just gone by itself.
    }
  }

  /** A connection to its command socket closes with it (and once in a while before); no need to ask all the time. */
  async #watch(): Promise<void> {
    // What cannot be asked now lives on.
    while (!this.#letGo && (await isProcess(this.pid, this.#mark).catch(() => true))) {
      await this.#untilClosed()
      if (!this.#letGo) await delay(10)
    }
  }

  #untilClosed(): Promise<void> {
    return new Promise((resolve) => {
      const connection = connect(this.#socket)
      this.#connection = connection
      connection.on('error', () => undefined)
      connection.once('close', () => resolve())
      connection.resume()
    })
  }
}
