import { ByHandError, type ErrorCode, ImagebuildError } from '../core/errors.ts'
import { pauses } from '../core/pauses.ts'
import type { Pve } from './client.ts'
import { type GuestRef, guestLabel } from './guest-ref.ts'
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
  /** no task makes it, and none will */
  | { by: 'nobody' }
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

/** Tasks of one node that are looked through at once. */
const TASKS = 500

interface TaskRow {
  upid: string
  /** Unix seconds; missing while it runs */
  endtime?: number
}

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
    const elsewhere = await this.#madeBy(await this.#clusterTasks())
    if (elsewhere !== undefined) return elsewhere
    if ((await this.#seesAllTasks()) || (await this.#ownWorkerDied())) return { by: 'nobody' }
    return { by: 'unseen' }
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
    const lines = (await this.#pve.api.nodes.$(task.node).tasks.$(task.upid).log.$get(query)) as {
      t: string
    }[]
    const text = Array.isArray(lines) ? lines.map(({ t }) => t).join('\n') : ''
    const [, result] = / with ID (\d+)$/m.exec(text) ?? []
    const disks = [...text.matchAll(/\b(?:vm|subvol)-(\d+)-disk-\d/g)].map(([, vmid]) => vmid)
    const named = result ?? disks.find((vmid) => vmid !== task.id)
    return named === undefined ? undefined : Number(named)
  }

  /** Whoever may not audit the node sees the tasks of these very credentials only. */
  async #seesAllTasks(): Promise<boolean> {
    const path = `/nodes/${this.#guest.node}`
    const need = { path, privileges: ['Sys.Audit'], why: 'see the tasks of others' }
    return (await this.#pve.missingPrivileges([need])).length === 0
  }

  /**
   * A worker that dies leaves no word how it ended, and removes nothing; one that fails says why, and has removed what it
   * made. While what it has left is there, Proxmox makes nothing else at this VMID.
   */
  async #ownWorkerDied(): Promise<boolean> {
    if (this.#ordered === undefined) return false
    const task = this.#pve.api.nodes.$(this.#guest.node).tasks.$(this.#ordered)
    const { status, exitstatus = '' } = (await task.status.$get()) as { status: string; exitstatus?: string }
    return status === 'stopped' && isWithoutEnd(exitstatus)
  }

  /** What runs on any node: the latest tasks of each, of which a token without Sys.Audit sees none. */
  async #clusterTasks(): Promise<Upid[]> {
    const rows = (await this.#pve.api.cluster.tasks.$get()) as TaskRow[]
    return rows.filter(({ endtime }) => endtime === undefined).map(({ upid }) => parseUpid(upid))
  }

  async #running(): Promise<Upid[]> {
    const { tasks } = this.#pve.api.nodes.$(this.#guest.node)
    const rows = (await tasks.$get({ source: 'active', limit: TASKS })) as TaskRow[]
    return rows.map(({ upid }) => parseUpid(upid))
  }
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
    const tool = kind === 'vm' ? 'qm' : 'pct'
    return {
      code: 'build_failed',
      state: 'was never finished, and keeps its lock',
      why: 'no running task is creating it: the worker that did has died',
      next: `on ${node}, as root: ${tool} unlock ${vmid} && ${tool} destroy ${vmid}`,
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
