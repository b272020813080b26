import { ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { pauses } from '../core/pauses.ts'
import { DeadlineError, Ownership, poll, withDeadline } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { type CloneOf, cannotLink, inheritedDrives, orderClone } from './clone.ts'
import { conversionsOf, converted } from './container-conversion.ts'
import { configIfThere, destroyGuest, isBeingMade } from './destroy.ts'
import { PveError } from './errors.ts'
import { addressesOf } from './guest-addresses.ts'
import {
  consoleCommand,
  type GuestKind,
  type GuestRef,
  guestApi,
  guestLabel,
  readConfig,
} from './guest-ref.ts'
import { parseNote } from './marks.ts'
import type { Place, VmidRange } from './place.ts'
import { parseUpid } from './tasks.ts'

/** Proxmox's parameters for `POST /nodes/{node}/qemu` or `…/lxc`, without the VMID. */
export type CreateParameters = Record<string, string | number | boolean | undefined>

export interface GuestRequest {
  kind: GuestKind
  place: Place
  image: string
  run: string
  range: VmidRange
  emit: Emit
  /** told about the guest as soon as it has a VMID */
  onLine?: (line: string) => void
  signal: AbortSignal
  /** seconds for the create task: it copies the source image, or unpacks the source archive */
  seconds: number
  /** everything but the VMID; tags and note name it, hence a function */
  parameters(vmid: number): CreateParameters
  /** instead of an empty guest: a copy of this template */
  cloneOf?: CloneOf
}

/** A temporary guest: owned until somebody keeps it. */
export class Guest implements AsyncDisposable, GuestRef {
  readonly kind: GuestKind
  readonly vmid: number
  readonly node: string
  readonly #pve: Pve
  readonly #request: GuestRequest
  readonly #owned: Ownership
  #outcome: 'unknown' | 'refused' | 'accepted' = 'unknown'
  #task: string | undefined
  /** conversions of this VMID that were over before ours began */
  #converting: ReadonlySet<string> | undefined

  constructor(pve: Pve, request: GuestRequest, vmid: number) {
    this.#pve = pve
    this.#request = request
    this.kind = request.kind
    this.vmid = vmid
    this.node = request.place.node
    this.#owned = new Ownership({
      resource: `${guestLabel(this)} on ${this.node}`,
      image: request.image,
      next: 'run `imagebuild prune`',
      emit: request.emit,
      remove: (signal) => this.#remove(signal),
    })
  }

  get #api() {
    return guestApi(this.#pve, this)
  }

  async create(): Promise<void> {
    const { cloneOf, parameters, seconds } = this.#request
    if (cloneOf === undefined) {
      const { qemu, lxc } = this.#pve.api.nodes.$(this.node)
      const guests = this.kind === 'vm' ? qemu : lxc
      await this.#begin(guests.$post({ vmid: this.vmid, ...parameters(this.vmid) } as never), seconds)
      return
    }
    await this.#clone(cloneOf)
  }

  async #clone(of: CloneOf): Promise<void> {
    const { parameters, seconds, place } = this.#request
    const { tags, description, name, ...hardware } = parameters(this.vmid)
    const order = (full: boolean) =>
      this.#begin(orderClone(this.#pve, this, of, { full, name, description, place }), seconds)
    if (!of.linked) await order(true)
    else {
      await order(false).catch(async (error) => {
        if (!cannotLink(error)) throw error
        await order(true)
      })
    }
    const config = await readConfig(this.#pve, this)
    // Whoever protects a template means that one: of a clone, nothing could be removed.
    if (config.protection) await this.configure({ protection: false })
    const unwanted = of.asConsumer ? [] : inheritedDrives(config)
    if (unwanted.length > 0) await this.configure({ delete: unwanted.join(',') })
    await this.configure({ ...(tags !== undefined && { tags }), ...hardware })
  }

  /** The call that brings the guest into being, and its task. */
  async #begin(call: Promise<unknown>, seconds: number): Promise<void> {
    let upid: string
    this.#outcome = 'unknown'
    try {
      upid = (await call) as string
    } catch (error) {
      if (error instanceof PveError && error.delivery !== 'unknown' && !error.passing)
        this.#outcome = 'refused'
      throw error
    }
    this.#outcome = 'accepted'
    await this.#wait(upid, seconds)
  }

  async #wait(upid: string, seconds: number): Promise<void> {
    const { onLine, signal } = this.#request
    this.#task = upid
    await this.#pve.waitTask(upid, { seconds, signal, ...(onLine && { onLog: onLine }) })
    this.#task = undefined
  }

  /** Changes the configuration at once; of a running guest some changes stay pending. */
  async configure(parameters: CreateParameters): Promise<void> {
    await this.#api.config.$put(parameters as never)
  }

  /** Bytes, as the configuration says; undefined where it does not. */
  async diskSize(slot: string): Promise<number | undefined> {
    const config = await readConfig(this.#pve, this)
    const size = /(?:^|,)size=(\d+)([KMGT]?)/.exec(String(config[slot] ?? ''))
    const unit = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }[(size?.[2] ?? '') as 'K']
    return size?.[1] === undefined ? undefined : Number(size[1]) * unit
  }

  /** Makes the disk at least `bytes` large. */
  async growDisk(slot: string, bytes: number): Promise<void> {
    if (((await this.diskSize(slot)) ?? 0) >= bytes) return
    const upid = await this.#api.resize.$put({
      disk: slot as 'scsi0',
      size: `${Math.ceil(bytes / 2 ** 20)}M`,
    })
    await this.#wait(upid, 600)
  }

  async start(): Promise<void> {
    await this.#wait((await this.#api.status.start.$post()) as string, 120)
  }

  async status(): Promise<GuestStatus> {
    // The library's type has numbers as optional that both kinds always have.
    return (await this.#api.status.current.$get()) as unknown as GuestStatus
  }

  /**
   * Waits until the guest, which is shutting itself down, has stopped.
   * @throws ImagebuildError `build_failed` when it has not within `seconds`
   */
  async stopped(seconds: number): Promise<void> {
    using signal = withDeadline(this.#request.signal, seconds, 'shutting down')
    try {
      await poll(async () => ((await this.status()).status === 'stopped' ? true : undefined), {
        signal,
        first: 100,
        max: 500,
      })
    } catch (cause) {
      if (!(signal.reason instanceof DeadlineError) || this.#request.signal.aborted) throw cause
      throw new ImagebuildError({
        code: 'build_failed',
        what: `${guestLabel(this)} was asked to power off, and still runs after ${seconds} s`,
        why: 'something in it keeps it from going down',
        next: `watch its console while it does: ${consoleCommand(this)} on ${this.node}`,
        cause,
      })
    }
  }

  /** See `addressesOf`. */
  async addresses(mac: string): Promise<string[] | undefined> {
    return await addressesOf(this.#pve, this, mac)
  }

  /** @throws PveError where Proxmox forbids us to ask: that is no answer of the agent's */
  async agentAnswers(): Promise<boolean> {
    try {
      await this.#api.agent.ping.$post()
      return true
    } catch (error) {
      if (error instanceof PveError && error.status === 403) throw error
      return false
    }
  }

  async toTemplate(): Promise<void> {
    const earlier = this.kind === 'lxc' ? await conversionsOf(this.#pve, this) : []
    const upid = (await this.#api.template.$post()) as string | null
    if (upid !== null) return await this.#wait(upid, TEMPLATE_SECONDS)
    // Of a container Proxmox tells no task: it answers, and goes on converting.
    this.#converting = new Set(earlier.map((task) => task.upid))
    using signal = withDeadline(this.#request.signal, TEMPLATE_SECONDS, `converting ${guestLabel(this)}`)
    await converted(this.#pve, this, this.#converting, signal)
    this.#converting = undefined
  }

  /** From here on it survives. */
  keep(): void {
    this.#owned.keep()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned[Symbol.asyncDispose]()
  }

  async #remove(signal: AbortSignal): Promise<void> {
    const pve = this.#pve.withSignal(signal)
    if (this.#outcome === 'refused') return
    if (this.#outcome === 'unknown' && !(await this.#isThere(pve, signal))) return
    if (this.#task !== undefined) {
      const task = pve.api.nodes.$(this.node).tasks.$(this.#task)
      // A task that is stopped cleans up after itself, and sooner than one that goes on copying. But between a
      // disk's new name and the config that says so there is nothing to stop: a conversion is waited for.
      if (parseUpid(this.#task).type === 'qmtemplate')
        await pve.waitTask(this.#task, { seconds: 60, signal }).catch(() => signal.throwIfAborted())
      else await task.$delete().catch(() => undefined)
    }
    if (this.#converting !== undefined) {
      using patience = withDeadline(signal, 60, `converting ${guestLabel(this)}`)
      await converted(pve, this, this.#converting, patience).catch(() => signal.throwIfAborted())
    }
    const { kind, node, vmid } = this
    await destroyGuest(pve, { kind, node, vmid, run: this.#request.run, signal })
  }

  /**
   * The create call came to no answer, and Proxmox may do the work all the same, a moment later. Whose the guest
   * is can only be told by its note, which it gets when it is complete.
   */
  async #isThere(pve: Pve, signal: AbortSignal): Promise<boolean> {
    const until = pauses.running() + APPEARS_MILLISECONDS
    return await poll(
      async () => {
        const config = await configIfThere(pve, this)
        if (config === undefined) return pauses.running() < until ? undefined : false
        if (isBeingMade(config)) return undefined
        return parseNote(this.vmid, config.description)?.run === this.#request.run
      },
      { signal, first: 200, max: 1000 },
    )
  }
}

export interface GuestStatus {
  status: 'running' | 'stopped'
  qmpstatus?: string
  uptime: number
  netin: number
  netout: number
  lock?: string
}

/** Seconds for a conversion: renaming of volumes, on some storages a snapshot. */
const TEMPLATE_SECONDS = 600

/** Milliseconds after which a guest whose create call was cut off will not appear any more. */
const APPEARS_MILLISECONDS = 2000
