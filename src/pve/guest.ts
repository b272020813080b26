import { randomBytes } from 'node:crypto'
import { ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { DeadlineError, Ownership, poll, withDeadline } from '../core/scope.ts'
import type { GuestStatus } from './answers.ts'
import type { Pve } from './client.ts'
import { type CloneOf, cannotLink, inheritedDrives, orderClone } from './clone.ts'
import { conversionsOf, converted } from './container-conversion.ts'
import { destroyGuest } from './destroy.ts'
import { sizeIn } from './disk-size.ts'
import { PveError } from './errors.ts'
import { addressesOf } from './guest-addresses.ts'
import { GuestOrder } from './guest-order.ts'
import {
  consoleCommand,
  type GuestKind,
  type GuestRef,
  guestApi,
  guestLabel,
  readConfig,
} from './guest-ref.ts'
import { newestTask } from './guest-tasks.ts'
import { workOn, writeConfig } from './lost-answer.ts'
import { readOwnConfig } from './own-guest.ts'
import type { Place, VmidRange } from './place.ts'
import { confirmTemplate, type Written } from './read-back.ts'
import { stopGuest } from './stop.ts'
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
  /** everything but the VMID; tags and note name the guest, hence a function */
  parameters(guest: GuestName): CreateParameters
  /** instead of an empty guest: a copy of this template */
  cloneOf?: CloneOf
}

/** What its tags and its note say of a guest. */
export interface GuestName {
  vmid: number
  /** in the note, as `guest`: another guest at this VMID, even one of the same run, does not have it */
  token: string
}

/** A temporary guest: owned until somebody keeps it. */
export class Guest implements AsyncDisposable, GuestRef {
  readonly kind: GuestKind
  readonly vmid: number
  readonly node: string
  readonly token = randomBytes(4).toString('hex')
  readonly #pve: Pve
  readonly #request: GuestRequest
  readonly #owned: Ownership
  readonly #order: GuestOrder
  readonly #reservation: Disposable | undefined
  #task: string | undefined
  /** conversions of this VMID that were over before ours began */
  #converting: ReadonlySet<string> | undefined

  /** @param reservation of the VMID, which ends with the guest's scope */
  constructor(pve: Pve, request: GuestRequest, vmid: number, reservation?: Disposable) {
    this.#pve = pve
    this.#request = request
    this.kind = request.kind
    this.vmid = vmid
    this.node = request.place.node
    this.#reservation = reservation
    const { seconds, signal, onLine } = request
    const { kind, node, token } = this
    this.#order = new GuestOrder(pve, { kind, node, vmid, token, seconds, signal, ...(onLine && { onLine }) })
    this.#owned = new Ownership({
      resource: `${guestLabel(this)} on ${this.node}`,
      image: request.image,
      next: 'run `imagebuild prune`',
      emit: request.emit,
      remove: (signal) => this.#remove(signal),
    })
  }

  /** For what changes this guest: looks before each such call whether the guest at this VMID is still this one. */
  get #own(): Pve {
    return this.#pve.withGate(async () => {
      await readOwnConfig(this.#pve, this)
    })
  }

  async create(): Promise<void> {
    const { cloneOf, parameters } = this.#request
    if (cloneOf !== undefined) return await this.#clone(cloneOf)
    const { qemu, lxc } = this.#pve.api.nodes.$(this.node)
    const guests = this.kind === 'vm' ? qemu : lxc
    await this.#order.create(() => guests.$post({ vmid: this.vmid, ...parameters(this) } as never))
  }

  async #clone(of: CloneOf): Promise<void> {
    const { parameters, place } = this.#request
    const { tags, description, name, ...hardware } = parameters(this)
    const order = (full: boolean) =>
      this.#order.clone(of.vmid, () => orderClone(this.#pve, this, of, { full, name, description, place }))
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

  async #wait(upid: string, seconds: number): Promise<void> {
    const { onLine, signal } = this.#request
    this.#task = upid
    await this.#pve.waitTask(upid, { seconds, signal, ...(onLine && { onLog: onLine }) })
    this.#task = undefined
  }

  /** Sends a call that begins a task, and waits for that. */
  async #run(send: () => Promise<string>, isDone: () => Promise<boolean>, seconds: number): Promise<void> {
    await workOn(this.#pve, this, {
      send,
      wait: (upid) => this.#wait(upid, seconds),
      isDone,
      signal: this.#request.signal,
    })
  }

  /** Changes the configuration at once; of a running guest some changes stay pending. */
  async configure(parameters: CreateParameters): Promise<void> {
    await writeConfig(this.#own, this, parameters)
  }

  /** Bytes, as the configuration says; undefined where it does not. */
  async diskSize(slot: string): Promise<number | undefined> {
    return sizeIn((await readConfig(this.#pve, this))[slot])
  }

  /** Makes the disk at least `bytes` large. */
  async growDisk(slot: string, bytes: number): Promise<void> {
    const isLarge = async () => ((await this.diskSize(slot)) ?? 0) >= bytes
    if (await isLarge()) return
    const size = `${Math.ceil(bytes / 2 ** 20)}M`
    await this.#run(() => guestApi(this.#own, this).resize.$put({ disk: slot, size }), isLarge, 600)
  }

  async start(): Promise<void> {
    const isRunning = async () => (await this.status()).status === 'running'
    await this.#run(() => guestApi(this.#own, this).status.start.$post(), isRunning, 120)
  }

  /** At once, as a power cut does; see `stopGuest`. */
  async stop(): Promise<void> {
    await stopGuest(this.#own, this, this.#request.signal)
  }

  async status(): Promise<GuestStatus> {
    return await guestApi(this.#pve, this).status.current.$get()
  }

  /**
   * Waits until the virtual machine, which is shutting itself down, has stopped. Not for containers: see `stopGuest`.
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
      await this.#pve.api.nodes.$(this.node).qemu.$(this.vmid).agent.ping.$post()
      return true
    } catch (error) {
      if (error instanceof PveError && error.status === 403) throw error
      return false
    }
  }

  async toTemplate(): Promise<void> {
    const earlier = this.kind === 'lxc' ? await conversionsOf(this.#pve, this) : []
    await workOn(this.#pve, this, {
      send: async () => await guestApi(this.#own, this).template.$post(),
      wait: (upid) => (upid === null ? this.#awaitConversion(earlier) : this.#wait(upid, TEMPLATE_SECONDS)),
      isDone: () => this.#isConverted(),
      signal: this.#request.signal,
    })
  }

  /** Of a container Proxmox tells no task: it answers, and goes on converting. */
  async #awaitConversion(earlier: readonly { upid: string }[]): Promise<void> {
    this.#converting = new Set(earlier.map((task) => task.upid))
    using signal = withDeadline(this.#request.signal, TEMPLATE_SECONDS, `converting ${guestLabel(this)}`)
    await converted(this.#pve, this, this.#converting, signal)
    this.#converting = undefined
  }

  /** A virtual machine is called a template before its disks are: only its task tells that they are. */
  async #isConverted(): Promise<boolean> {
    if (!(await readConfig(this.#pve, this)).template) return false
    const task = this.kind === 'vm' ? await newestTask(this.#pve, this, 'qmtemplate') : undefined
    if (task !== undefined) await this.#wait(task.upid, TEMPLATE_SECONDS)
    return true
  }

  /** Gives the template that it has become its last tags and its last note, and reads them back. */
  async mark(written: Written): Promise<void> {
    await this.configure({ ...written })
    await confirmTemplate(this.#own, this, written)
  }

  /** From here on it survives. */
  keep(): void {
    this.#owned.keep()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned[Symbol.asyncDispose]()
    this.#reservation?.[Symbol.dispose]()
  }

  async #remove(signal: AbortSignal): Promise<void> {
    const pve = this.#pve.withSignal(signal)
    const { outcome } = this.#order
    if (outcome === 'nothing') return
    if (outcome === 'unknown' && (await this.#order.look(pve, signal)) === 'not made') return
    const upid = this.#order.task ?? this.#task
    if (upid !== undefined) {
      // A task that is stopped cleans up after itself, and sooner than one that goes on copying. But between a
      // disk's new name and the config that says so there is nothing to stop: a conversion is waited for.
      if (parseUpid(upid).type === 'qmtemplate')
        await pve.waitTask(upid, { seconds: 60, signal }).catch(() => signal.throwIfAborted())
      else
        await pve.api.nodes
          .$(this.node)
          .tasks.$(upid)
          .$delete()
          .catch(() => undefined)
    }
    if (this.#converting !== undefined) {
      using patience = withDeadline(signal, 60, `converting ${guestLabel(this)}`)
      await converted(pve, this, this.#converting, patience).catch(() => signal.throwIfAborted())
    }
    const { kind, node, vmid, token } = this
    await destroyGuest(pve, { kind, node, vmid, token, ordered: this.#order.task, signal })
  }
}

/** Seconds for a conversion: renaming of volumes, on some storages a snapshot. */
const TEMPLATE_SECONDS = 600
