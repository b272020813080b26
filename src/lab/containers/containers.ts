import type { Duplex } from 'node:stream'
import type { LabNames } from '../names.ts'
import type { ContainerInterface, ContainerStatus, Containers } from '../world.ts'

export interface ContainersOptions {
  /** the lab's folder: console logs are kept there */
  dir: string
  names: LabNames
  /** the Linux bridge behind what clients know as vmbr0; throws for others */
  bridge(name: string): string
  /** DNS server of containers whose configuration names none */
  nameserver: string
  /** a container has ended, on whatever grounds */
  onEnd?: (vmid: number) => void
}

/** Containers by Debian's LXC. */
export class LxcContainers implements Containers {
  readonly #options: ContainersOptions

  constructor(options: ContainersOptions) {
    this.#options = options
  }

  async open(): Promise<void> {}
  close(): void {}
  async create(): Promise<{ ostype: string }> {
    throw new Error(`no containers in ${this.#options.dir} yet`)
  }
  async start(): Promise<void> {}
  async stop(): Promise<void> {}
  async shutdown(): Promise<void> {}
  async status(): Promise<ContainerStatus> {
    return { running: false, uptime: 0, mem: 0, disk: 0, netin: 0, netout: 0 }
  }
  async interfaces(): Promise<ContainerInterface[]> {
    return []
  }
  async frozen<T>(_vmid: number, work: () => Promise<T>): Promise<T> {
    return work()
  }
  async afterClone(): Promise<void> {}
  async growRoot(): Promise<void> {}
  async dump(): Promise<void> {}
  async restore(): Promise<void> {}
  async consoleLog(): Promise<string> {
    return ''
  }
  async console(): Promise<Duplex> {
    throw new Error('not running')
  }
  async running(): Promise<number[]> {
    return []
  }
  async stopAll(): Promise<void> {}
}
