import type { Faults } from '../faults.ts'
import type { GuestStore } from '../guests/store.ts'
import { settle } from './config.ts'

/**
 * What Proxmox does when a container has stopped. Its hook reads the configuration, unmounts and deactivates, and then
 * writes the whole configuration back: without a lock, so what was changed meanwhile is lost. The container counts as
 * stopped all the while; only the tasks that stop it wait for the hook.
 */
export class PostStopHooks {
  readonly #guests: GuestStore
  readonly #faults: Faults
  readonly #running = new Map<number, Promise<void>>()
  /** whose command socket breaks under who asks for its status next */
  readonly #resets = new Set<number>()

  constructor(guests: GuestStore, faults: Faults) {
    this.#guests = guests
    this.#faults = faults
  }

  /** For a container that has just stopped. */
  run(vmid: number): Promise<void> {
    const done = this.#run(vmid).finally(() => {
      // It may have been started again, and have stopped once more.
      if (this.#running.get(vmid) !== done) return
      this.#resets.delete(vmid)
      this.#running.delete(vmid)
    })
    this.#running.set(vmid, done)
    return done
  }

  async #run(vmid: number): Promise<void> {
    const guest = this.#guests.find(vmid)
    if (guest?.type !== 'lxc') return
    if (this.#faults.hits('goingDown')) this.#resets.add(vmid)
    const old = structuredClone(guest)
    await this.#faults.pause(this.#faults.settings.postStopSeconds)
    // A VMID has one guest: of another kind than the removed container, it keeps the hook from writing.
    if ((this.#guests.find(vmid)?.type ?? 'lxc') !== 'lxc') return
    settle(old, false)
    await this.#guests.overwrite(old)
  }

  /** Resolves when no hook of this container is at work any more. */
  async settled(vmid: number): Promise<void> {
    await this.#running.get(vmid)
  }

  async allSettled(): Promise<void> {
    await Promise.allSettled(this.#running.values())
  }

  /** Whether asking for this container's status fails; the next time it does not. */
  breaksStatus(vmid: number): boolean {
    return this.#resets.delete(vmid)
  }
}
