import { pauses } from '../core/pauses.ts'
import { poll } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { configIfThere, isBeingMade } from './destroy.ts'
import { PveError } from './errors.ts'
import type { GuestRef } from './guest-ref.ts'
import { activeTasks, newestTask } from './guest-tasks.ts'
import { LockedGuest, mayBeOurs } from './locked-guest.ts'
import { APPEARS_MILLISECONDS, isAnswerLost, TRIES } from './lost-answer.ts'
import { parseNote } from './marks.ts'
import { isTaken } from './vmids.ts'

/** A create or a clone: what is ordered of Proxmox, and what has become of it. */
export interface GuestOrderRequest extends GuestRef {
  /** in the note that comes with the order */
  token: string
  /** seconds for the task */
  seconds: number
  signal: AbortSignal
  /** each line of the task's log */
  onLine?: (line: string) => void
}

/** Tasks that make a guest. Those that clone have their source's number. */
const CREATES = { vm: 'qmcreate', lxc: 'vzcreate' } as const
const CLONES = { vm: 'qmclone', lxc: 'vzclone' } as const

export class GuestOrder {
  readonly #pve: Pve
  readonly #request: GuestOrderRequest
  /** `nothing`: Proxmox has made nothing for this order; `unknown`: the order is out, and nothing is known of it */
  outcome: 'nothing' | 'unknown' | 'accepted' = 'nothing'
  /** its task, while that runs */
  task: string | undefined
  /** what its task is called, and whose number it has */
  #task: { type: string; vmid: number } | undefined

  constructor(pve: Pve, request: GuestOrderRequest) {
    this.#pve = pve
    this.#request = request
  }

  async create(send: () => Promise<string>): Promise<void> {
    const { kind, vmid } = this.#request
    this.#task = { type: CREATES[kind], vmid }
    // The log of its task has a container's host keys.
    if ((await this.#carryOut(send)) === 'unheard') await this.#readLog()
  }

  /** @param source VMID of what is copied */
  async clone(source: number, send: () => Promise<string>): Promise<void> {
    this.#task = { type: CLONES[this.#request.kind], vmid: source }
    await this.#carryOut(send)
  }

  /**
   * Sends the order and waits for its task. Where the answer is lost, the guest itself tells by its token whether it was made. It is
   * ordered again only where it was not, and at the same VMID, which Proxmox gives only once.
   * @returns `unheard` where it was made, and no answer has said by which task
   */
  async #carryOut(send: () => Promise<string>): Promise<'heard' | 'unheard'> {
    const { vmid, signal } = this.#request
    let isLost = false
    for (let tries = 1; ; tries += 1) {
      try {
        await this.#sendAndWait(send, isLost)
        return 'heard'
      } catch (error) {
        signal.throwIfAborted()
        isLost ||= isAnswerLost(error)
        // What refuses the order now may be the one whose answer was lost.
        const state = isLost ? await this.look(this.#pve, signal) : 'not made'
        if (state === 'made') {
          this.outcome = 'accepted'
          return 'unheard'
        }
        if (state === 'not made' && isTaken(error, vmid)) this.outcome = 'nothing'
        if (state === 'locked' || !isAnswerLost(error) || tries === TRIES) throw error
      }
    }
  }

  async #sendAndWait(send: () => Promise<string>, isLost: boolean): Promise<void> {
    this.outcome = 'unknown'
    let upid: string
    try {
      upid = await send()
    } catch (error) {
      // Of an order before this one, nothing is known.
      if (error instanceof PveError && !isAnswerLost(error) && !isLost) this.outcome = 'nothing'
      throw error
    }
    this.outcome = 'accepted'
    await this.#wait(upid)
  }

  async #wait(upid: string): Promise<void> {
    const { seconds, signal, onLine } = this.#request
    this.task = upid
    await this.#pve.waitTask(upid, { seconds, signal, ...(onLine && { onLog: onLine }) })
    this.task = undefined
  }

  /** The guest is this order's, so the newest create of its VMID is too. */
  async #readLog(): Promise<void> {
    const task = await newestTask(this.#pve, this.#request, CREATES[this.#request.kind])
    if (task !== undefined) await this.#wait(task.upid)
  }

  /**
   * Whether the guest at this VMID is this order's: waits until Proxmox has made it, or it will not appear any more.
   * `locked`: it keeps the lock of its creation, and no task of these credentials is at work on it.
   */
  async look(pve: Pve, signal: AbortSignal): Promise<'made' | 'not made' | 'locked'> {
    const { vmid, token } = this.#request
    const until = pauses.running() + APPEARS_MILLISECONDS
    const locked = new LockedGuest(pve, this.#request)
    return await poll(
      async () => {
        const config = await configIfThere(pve, this.#request)
        if (config === undefined) {
          if (await this.#isUnderWay(pve)) return undefined
          return pauses.running() < until ? undefined : 'not made'
        }
        if (isBeingMade(config)) return mayBeOurs(await locked.look()) ? undefined : 'locked'
        return parseNote(vmid, config.description)?.guest === token ? 'made' : 'not made'
      },
      { signal, first: 200, max: 1000 },
    )
  }

  /** Whether a task that may be this order's waits for its locks: then nothing is there yet. */
  async #isUnderWay(pve: Pve): Promise<boolean> {
    if (this.#task === undefined) return false
    const { type, vmid } = this.#task
    const tasks = await activeTasks(pve, { ...this.#request, vmid })
    return tasks.some((task) => task.type === type)
  }
}
