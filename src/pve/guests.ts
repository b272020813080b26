import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { Ownership, poll, withDeadline } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { parseNote } from './marks.ts'
import type { Place, VmidRange } from './place.ts'
import { readConfig } from './templates.ts'

/** Temporary machines: created at a free VMID, owned until somebody keeps them. */

/** Proxmox's parameters for `POST /nodes/{node}/qemu`, without the VMID. */
export type CreateParameters = Record<string, string | number | boolean | undefined>

export interface GuestRequest {
  place: Place
  image: string
  run: string
  range: VmidRange
  emit: Emit
  /** told about the guest as soon as it has a VMID */
  onLine?: (line: string) => void
  signal: AbortSignal
  /** seconds for the create task: it copies the source image */
  seconds: number
  /** everything but the VMID; tags and note name it, hence a function */
  parameters(vmid: number): CreateParameters
  /** instead of an empty machine: a full clone of this template */
  cloneOf?: { node: string; vmid: number; name: string }
}

/** Creates a guest at the first VMID of the range that nobody has, which is what makes the choice safe. */
export async function createGuest(pve: Pve, request: GuestRequest): Promise<Guest> {
  const { place, range } = request
  const taken = new Set(await visibleVmids(pve))
  for (let vmid = range.first; vmid <= range.last; vmid += 1) {
    if (taken.has(vmid)) continue
    const guest = new Guest(pve, request, vmid)
    try {
      await guest.create()
      return guest
    } catch (error) {
      await guest[Symbol.asyncDispose]()
      if (!isTaken(error)) throw error
    }
  }
  throw new ImagebuildError({
    code: 'busy',
    what: `all VMIDs from ${range.first} to ${range.last} are taken`,
    next: `remove old templates, or widen vmids.templates of target ${place.target} in imagebuild.yaml`,
  })
}

async function visibleVmids(pve: Pve): Promise<number[]> {
  const rows = (await pve.api.cluster.resources.$get({ type: 'vm' })) as { vmid: number }[]
  return rows.map((row) => row.vmid)
}

/** Proxmox says that this VMID exists, or that somebody is creating it right now. */
export function isTaken(error: unknown): boolean {
  const { message } = asImagebuildError(error)
  return /already exists|already used|can't lock file .*(create|lock)|got timeout/i.test(message)
}

export class Guest implements AsyncDisposable {
  readonly vmid: number
  readonly node: string
  readonly #pve: Pve
  readonly #request: GuestRequest
  readonly #owned: Ownership
  #created = false
  #task: string | undefined

  constructor(pve: Pve, request: GuestRequest, vmid: number) {
    this.#pve = pve
    this.#request = request
    this.vmid = vmid
    this.node = request.place.node
    this.#owned = new Ownership({
      resource: `VM ${vmid} on ${this.node}`,
      image: request.image,
      next: 'run `imagebuild prune`',
      emit: request.emit,
      remove: (signal) => this.#remove(signal),
    })
  }

  get #api() {
    return this.#pve.api.nodes.$(this.node).qemu.$(this.vmid)
  }

  async create(): Promise<void> {
    const { cloneOf, parameters, seconds, place } = this.#request
    if (cloneOf === undefined) {
      const upid = (await this.#pve.api.nodes
        .$(this.node)
        .qemu.$post({ vmid: this.vmid, ...parameters(this.vmid) })) as string
      this.#created = true
      await this.#wait(upid, seconds)
      return
    }
    const { tags, description, name, ...hardware } = parameters(this.vmid)
    const upid = (await this.#pve.api.nodes
      .$(cloneOf.node)
      .qemu.$(cloneOf.vmid)
      .clone.$post({
        newid: this.vmid,
        full: true,
        ...(name !== undefined && { name: String(name) }),
        ...(description !== undefined && { description: String(description) }),
        storage: place.storages.disks,
        ...(place.pool !== undefined && { pool: place.pool }),
      })) as string
    this.#created = true
    await this.#wait(upid, seconds)
    // Its parent's cloud-init drive came along, and must not compete with the seed.
    const config = await readConfig(this.#pve, this.node, this.vmid)
    const inherited = Object.keys(config).filter((key) => /cloudinit.*media=cdrom/.test(String(config[key])))
    if (inherited.length > 0) await this.configure({ delete: inherited.join(',') })
    await this.configure({ ...(tags !== undefined && { tags }), ...hardware })
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

  /** Makes the disk at least `bytes` large. */
  async growDisk(slot: string, bytes: number): Promise<void> {
    const config = await readConfig(this.#pve, this.node, this.vmid)
    const size = /(?:^|,)size=(\d+)([KMGT]?)/.exec(String(config[slot] ?? ''))
    const unit = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }[(size?.[2] ?? '') as 'K']
    if (size?.[1] !== undefined && Number(size[1]) * unit >= bytes) return
    const upid = (await this.#api.resize.$put({
      disk: slot as 'scsi0',
      size: `${Math.ceil(bytes / 2 ** 20)}M`,
    })) as unknown as string
    await this.#wait(upid, 600)
  }

  async start(): Promise<void> {
    await this.#wait((await this.#api.status.start.$post()) as string, 120)
  }

  async status(): Promise<GuestStatus> {
    return (await this.#api.status.current.$get()) as unknown as GuestStatus
  }

  /** Waits until the guest, which is shutting itself down, has stopped. */
  async stopped(seconds: number): Promise<void> {
    using signal = withDeadline(this.#request.signal, seconds, `VM ${this.vmid} shutting down`)
    await poll(async () => ((await this.status()).status === 'stopped' ? true : undefined), {
      signal,
      first: 100,
      max: 500,
    })
  }

  /** The addresses that the guest agent reports, loopback and link-local ones left out; undefined while it is silent. */
  async agentAddresses(): Promise<string[] | undefined> {
    try {
      const answer = (await this.#api.agent['network-get-interfaces'].$get()) as unknown as {
        result: AgentInterface[]
      }
      return answer.result
        .filter(({ name }) => name !== 'lo')
        .flatMap((nic) => nic['ip-addresses'] ?? [])
        .filter((entry) => entry['ip-address-type'] === 'ipv4' && !entry['ip-address'].startsWith('169.254.'))
        .map((entry) => entry['ip-address'])
    } catch {
      return undefined
    }
  }

  async agentAnswers(): Promise<boolean> {
    return await this.#api.agent.ping.$post().then(
      () => true,
      () => false,
    )
  }

  async toTemplate(): Promise<void> {
    const upid = (await this.#api.template.$post()) as unknown as string
    await this.#wait(upid, 600)
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
    if (!this.#created && !(await this.#isOurs(pve))) return
    if (this.#task !== undefined) {
      // A task that is stopped cleans up after itself, and sooner than one that goes on copying.
      const task = pve.api.nodes.$(this.node).tasks.$(this.#task)
      await task.$delete().catch(() => undefined)
    }
    await destroyGuest(pve, { node: this.node, vmid: this.vmid, run: this.#request.run, signal })
  }

  /** The create call failed, perhaps after Proxmox had done the work: only the note can tell. */
  async #isOurs(pve: Pve): Promise<boolean> {
    const config = await readConfig(pve, this.node, this.vmid).catch(() => undefined)
    return config !== undefined && parseNote(this.vmid, config.description)?.run === this.#request.run
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

interface AgentInterface {
  name: string
  'ip-addresses'?: { 'ip-address': string; 'ip-address-type': string }[]
}

/**
 * Removes a guest and its disks, running or not. A guest that is gone is no error; one whose note names another
 * run is left alone.
 */
export async function destroyGuest(
  pve: Pve,
  target: { node: string; vmid: number; run?: string; signal: AbortSignal },
): Promise<void> {
  const { node, vmid, run, signal } = target
  const guest = pve.api.nodes.$(node).qemu.$(vmid)
  await poll(
    async () => {
      const config = await readConfig(pve, node, vmid).catch((error) => {
        if (isMissing(error)) return undefined
        throw error
      })
      if (config === undefined) return true
      if (config.lock === 'create') return undefined // its own failure removes it, or its end lets us
      const note = parseNote(vmid, config.description)
      if (run !== undefined && note !== undefined && note.run !== run) return true
      const { status } = (await guest.status.current.$get()) as unknown as GuestStatus
      if (status === 'running') {
        await pve.waitTask((await guest.status.stop.$post()) as string, { seconds: 60, signal })
      }
      const upid = (await guest.$delete({ purge: true, 'destroy-unreferenced-disks': true })) as string
      await pve.waitTask(upid, { seconds: 300, signal })
      return true
    },
    { signal, first: 200, max: 1000 },
  )
}

/** Proxmox answers 500 for a guest that does not exist. */
export function isMissing(error: unknown): boolean {
  return /does not exist|no such VM|unable to find configuration file/i.test(asImagebuildError(error).message)
}
