import { ByHandError, type ErrorCode, ImagebuildError } from '../core/errors.ts'
import { pauses } from '../core/pauses.ts'
import type { Pve } from './client.ts'
import { type GuestRef, guestLabel } from './guest-ref.ts'
import { newestTask, runningTasks } from './guest-tasks.ts'
import type { Need } from './permissions.ts'
import { parseUpid, type Upid } from './tasks.ts'

/**
 * A guest with `lock: create` or `lock: clone`: a task is making it, or the worker that was to make it has died. What a
 * dead worker has left keeps its lock, without tags and note, until root removes it on the node. The two look the same;
 * only the node's tasks tell them apart.
 */
export type Making =
  /** a running task makes it; `sure` is false for a clone whose log does not name its result (yet) */
  | { by: 'task'; task: Upid; ours: boolean; sure: boolean }
  /** no task was seen, and not for long enough to be sure */
  | { by: 'unsettled' }
  /**
   * no task makes it, and none will. `died`: UPID of the task of these credentials that has left it; that nobody has cleared
   * up since, and begun anew, cannot be seen
   */
  | { by: 'nobody'; died?: string }
  /** no task that these credentials may see makes it */
  | { by: 'unseen' }

/** Tasks that bring a guest into being. The id of those that clone is their source's. */
const CREATES = /^(qm|vz)(create|restore|migrate|mtunnel|tunnel)$|^qmigrate$/
const CLONES = /^(qm|vz)clone$/

/**
 * Milliseconds without a task until there is none. Proxmox writes the lock in the call and starts the task at the call's
 * end; between the two it checks parameters and storages.
 */
const SETTLED = 5000

/** Lines of a clone's log in which its result is named. */
const FIRST_LINES = 50

/** Watches one guest that is locked so, look by look. */
export class LockedGuest {
  readonly #pve: Pve
  readonly #guest: GuestRef
  readonly #ordered: string | undefined
  readonly #now: () => number
  #since: number | undefined

  /**
   * @param ordered UPID of the task that we have just ordered to make it
   * @param now milliseconds of a clock that never goes back, and stands still while this process does
   */
  constructor(
    pve: Pve,
    guest: GuestRef,
    { ordered, now = () => pauses.running() }: { ordered?: string | undefined; now?: () => number } = {},
  ) {
    this.#pve = pve
    this.#guest = guest
    this.#ordered = ordered
    this.#now = now
  }

  /** To be called after its config was seen with the lock, and again while the answer is `unsettled`. */
  async look(): Promise<Making> {
    const running = await this.#running()
    const making = await this.#madeBy(running)
    if (making !== undefined) {
      this.#since = undefined
      return making
    }
    this.#since ??= this.#now()
    // A task that cannot make it may still be at work on it: a removal that waits for its lock, say.
    if (running.some((task) => this.#isOn(task))) return { by: 'unsettled' }
    if (this.#now() - this.#since < SETTLED) return { by: 'unsettled' }
    if ((await this.#seesAllTasks()) || (await this.#orderedDied())) return { by: 'nobody' }
    const died = await this.#ownCreateDied()
    return died === undefined ? { by: 'unseen' } : { by: 'nobody', died }
  }

  async #madeBy(running: readonly Upid[]): Promise<Making | undefined> {
    const { user } = this.#pve
    const of = (task: Upid, sure: boolean): Making => ({ by: 'task', task, ours: task.user === user, sure })
    const creating = running.find((task) => CREATES.test(task.type) && this.#isOn(task))
    if (creating !== undefined) return of(creating, true)
    let perhaps: Upid | undefined
    for (const task of running) {
      if (!CLONES.test(task.type)) continue
      const result = await this.#resultOf(task)
      if (result === this.#guest.vmid) return of(task, true)
      if (result === undefined) perhaps ??= task
    }
    return perhaps && of(perhaps, false)
  }

  #isOn({ id }: Upid): boolean {
    return id === String(this.#guest.vmid)
  }

  /** VMID of what a clone makes, as its log says it: Proxmox VE 8 names only the new disks there. */
  async #resultOf(task: Upid): Promise<number | undefined> {
    const query = { start: 0, limit: FIRST_LINES }
    const lines = await this.#pve.api.nodes.$(task.node).tasks.$(task.upid).log.$get(query)
    const text = Array.isArray(lines) ? lines.map(({ t }) => t).join('\n') : ''
    const [, result] = / with ID (\d+)$/m.exec(text) ?? []
    const disks = [...text.matchAll(/\b(?:vm|subvol)-(\d+)-disk-\d/g)].map(([, vmid]) => vmid)
    const named = result ?? disks.find((vmid) => vmid !== task.id)
    return named === undefined ? undefined : Number(named)
  }

  async #seesAllTasks(): Promise<boolean> {
    return (await this.#pve.missingPrivileges([seeTasks(this.#guest.node)])).length === 0
  }

  /**
   * A worker that dies leaves no word how it ended, and removes nothing; one that fails says why, and has removed what it
   * made. While what it has left is there, Proxmox makes nothing else at this VMID.
   */
  async #orderedDied(): Promise<boolean> {
    if (this.#ordered === undefined) return false
    const task = this.#pve.api.nodes.$(this.#guest.node).tasks.$(this.#ordered)
    const { status, exitstatus = '' } = await task.status.$get()
    return status === 'stopped' && isWithoutEnd(exitstatus)
  }

  /** An earlier run's, too: the task list of these credentials outlives it. Of a clone nothing is found, whose task bears the source's VMID. */
  async #ownCreateDied(): Promise<string | undefined> {
    const type = this.#guest.kind === 'vm' ? 'qmcreate' : 'vzcreate'
    const newest = await newestTask(this.#pve, this.#guest, type)
    return newest !== undefined && isWithoutEnd(newest.status ?? '') ? newest.upid : undefined
  }

  /** On its own node alone: what makes a guest that is locked so runs there, also what moves it to another node in the end. */
  async #running(): Promise<Upid[]> {
    return (await runningTasks(this.#pve, this.#guest.node)).map(({ upid }) => parseUpid(upid))
  }
}

/** Whoever has not this sees the tasks of the same credentials only. */
export function seeTasks(node: string): Need {
  return { path: `/nodes/${node}`, privileges: ['Sys.Audit'], why: 'see the tasks of others' }
}

/** Whether these credentials have ordered it, or may have: then it is worth waiting. */
export function mayBeOurs(making: Making): boolean {
  return making.by === 'unsettled' || (making.by === 'task' && making.ours)
}

/** What Proxmox says of a task whose log has no last word. */
function isWithoutEnd(status: string): boolean {
  return /^unexpected status$|^unable to (get last line|read tail)/.test(status)
}

/** What is to be said of such a guest. */
interface Word {
  code: ErrorCode
  /** follows its name, or `it` */
  state: string
  why: string
  next: string
}

export function describeLocked(
  { user }: Pick<Pve, 'user'>,
  { kind, node, vmid }: GuestRef,
  making: Making,
): Word {
  if (making.by === 'task') {
    const { task, sure } = making
    const doubt = sure ? '' : ', as far as can be seen: its log does not say what it makes'
    return {
      code: 'busy',
      state: 'is being created',
      why: `by task ${task.upid}, started by ${task.user}${doubt}`,
      next: 'run again when it has ended',
    }
  }
  if (making.by === 'nobody') {
    const { died } = making
    const tool = kind === 'vm' ? 'qm' : 'pct'
    const where =
      died === undefined ? '' : ', where `pvenode task list --source active` has no task that creates it'
    return {
      code: 'build_failed',
      state: 'was never finished, and keeps its lock',
      why:
        died === undefined
          ? 'no running task is creating it: the worker that did has died'
          : `the worker of task ${died} has died`,
      next: `on ${node}, as root${where}: ${tool} unlock ${vmid} && ${tool} destroy ${vmid}`,
    }
  }
  return {
    code: 'busy',
    state: 'is locked for its creation',
    why: `no task of ${user} is creating it, and the tasks of others can be seen with Sys.Audit on /nodes/${node} only`,
    next: `see on ${node}, as root, who is creating it: pvenode task list --source active. With Sys.Audit on /nodes/${node} imagebuild sees that itself, and says how to remove what nobody is creating`,
  }
}

/** Why such a guest cannot be used or removed now, and what to do. */
export function lockedGuest(pve: Pick<Pve, 'user'>, guest: GuestRef, making: Making): ImagebuildError {
  const { state, ...facts } = describeLocked(pve, guest, making)
  const what = `${guestLabel(guest)} on ${guest.node} ${state}`
  return making.by === 'task' ? new ImagebuildError({ ...facts, what }) : new ByHandError({ ...facts, what })
}
