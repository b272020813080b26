import { pauses } from '../core/pauses.ts'
import { poll } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { configIfThere, isBeingMade } from './destroy.ts'
import { PveError } from './errors.ts'
import type { GuestRef } from './guest-ref.ts'
import { newestTask } from './guest-tasks.ts'
import { LockedGuest, mayBeOurs } from './locked-guest.ts'
import { isAnswerLost, TRIES } from './lost-answer.ts'
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

/** Milliseconds after which a guest whose order was cut off will not appear any more. */
const APPEARS_MILLISECONDS = 2000

export class GuestOrder {
  readonly #pve: Pve
  readonly #request: GuestOrderRequest
  /** `nothing`: Proxmox has made nothing for this order; `unknown`: the order is out, and nothing is known of it */
  outcome: 'nothing' | 'unknown' | 'accepted' = 'nothing'
  /** its task, while that runs */
  task: string | undefined

  constructor(pve: Pve, request: GuestOrderRequest) {
    this.#pve = pve
    this.#request = request
  }

  /**
   * Sends the order and waits for its task. Where the answer is lost, the guest itself tells by its token whether it was made. It is
   * ordered again only where it was not, and at the same VMID, which Proxmox gives only once.
   */
  async carryOut(send: () => Promise<unknown>): Promise<void> {
    const { vmid, signal } = this.#request
    let isLost = false
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#sendAndWait(send)
      } catch (error) {
        const taken = isTaken(error, vmid)
        // What took the VMID may be the order whose answer was lost.
        const mayBeMade = isAnswerLost(error) || (taken && isLost)
        const state = mayBeMade ? await this.look(this.#pve, signal) : 'not made'
        if (state === 'made') {
          this.outcome = 'accepted'
          return await this.#readLog()
        }
        if (state === 'locked') throw error
        if (taken) this.outcome = 'nothing'
        if (!isAnswerLost(error) || tries === TRIES) throw error
        isLost = true
      }
    }
  }

  async #sendAndWait(send: () => Promise<unknown>): Promise<void> {
    this.outcome = 'unknown'
    let upid: string
    try {
      upid = (await send()) as string
    } catch (error) {
      if (error instanceof PveError && !isAnswerLost(error)) this.outcome = 'nothing'
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

  /** Of a create whose answer was lost: its log has a container's host keys. The guest is this one's, so its newest create is too. */
  async #readLog(): Promise<void> {
    const task = await newestTask(
      this.#pve,
      this.#request,
      this.#request.kind === 'vm' ? 'qmcreate' : 'vzcreate',
    )
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
        if (config === undefined) return pauses.running() < until ? undefined : 'not made'
        if (isBeingMade(config)) return mayBeOurs(await locked.look()) ? undefined : 'locked'
        return parseNote(vmid, config.description)?.guest === token ? 'made' : 'not made'
      },
      { signal, first: 200, max: 1000 },
    )
  }
}
