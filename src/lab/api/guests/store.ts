import { createHash } from 'node:crypto'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type ApiError, failure } from '../errors.ts'
import { readState, writeState } from '../state-file.ts'
import { type AcquireOptions, FileLocks } from './file-locks.ts'

/** The guests' configurations, one file each, and the locks around them. */

export type GuestConfig = Record<string, string | number>

/** A VMID belongs to one guest: a virtual machine or a container. */
export type GuestType = 'qemu' | 'lxc'

/** What Proxmox calls a guest in its messages: VM 100, CT 100. */
export function wordFor(type: GuestType): 'VM' | 'CT' {
  return type === 'lxc' ? 'CT' : 'VM'
}

export interface Snapshot {
  config: GuestConfig
  snaptime: number
  /** the snapshot's own; the guest's is not part of a snapshot */
  description?: string
  parent?: string
}

export interface Guest {
  vmid: number
  /** where it lives: as Proxmox has it, a VMID is one guest's in the whole cluster */
  node: string
  type: GuestType
  config: GuestConfig
  /** set while running, applied at the next start */
  pending: GuestConfig
  /** to be removed at the next start; 1: with its volume */
  removals: Record<string, 0 | 1>
  snapshots: Record<string, Snapshot>
  /** milliseconds; when it was last written */
  changed: number
}

export class GuestStore {
  readonly #folder: string
  readonly #node: string
  readonly #guests: Map<number, Guest>
  readonly #locks: FileLocks
  readonly #changing: Set<Guest>

  /** `cluster`: the store of another node, whose guests this one knows too */
  constructor(folder: string, node: string, cluster?: GuestStore) {
    this.#folder = folder
    this.#node = node
    this.#guests = cluster ? cluster.#guests : new Map()
    this.#locks = cluster ? cluster.#locks : new FileLocks()
    this.#changing = cluster ? cluster.#changing : new Set()
  }

  /** The same guests, seen from another node. */
  at(node: string): GuestStore {
    return new GuestStore(this.#folder, node, this)
  }

  async load(): Promise<void> {
    await mkdir(this.#folder, { recursive: true })
    for (const name of await readdir(this.#folder)) {
      if (!/^\d+\.json$/.test(name)) continue
      const guest = await readState<Guest>(join(this.#folder, name))
      // Labs from before there were containers have virtual machines only, those from before there were nodes one.
      if (guest)
        this.#guests.set(guest.vmid, { ...guest, type: guest.type ?? 'qemu', node: guest.node ?? this.#node })
    }
  }

  /** of the whole cluster, by VMID */
  everywhere(): Guest[] {
    return [...this.#guests.values()].sort((a, b) => a.vmid - b.vmid)
  }

  /** of this node, by VMID; of one type, or all */
  all(type?: GuestType): Guest[] {
    return this.everywhere().filter(
      (guest) => guest.node === this.#node && (type === undefined || guest.type === type),
    )
  }

  /** on whatever node */
  find(vmid: number): Guest | undefined {
    return this.#guests.get(vmid)
  }

  isHere(vmid: number): boolean {
    return this.#guests.get(vmid)?.node === this.#node
  }

  /** @throws ApiError 500, in the words for "No such VM", also for one of another node */
  need(vmid: number, type: GuestType = 'qemu'): Guest {
    const guest = this.#guests.get(vmid)
    if (guest?.type === type && guest.node === this.#node) return guest
    throw notThere({ vmid, type, node: this.#node })
  }

  /** @throws ApiError 500 when the VMID has a guest of either type */
  refuseTaken(vmid: number): void {
    const guest = this.#guests.get(vmid)
    if (guest) throw failure(`${wordFor(guest.type)} ${vmid} already exists on node '${guest.node}'`)
  }

  add(vmid: number, config: GuestConfig, type: GuestType = 'qemu'): Guest {
    const fresh = { pending: {}, removals: {}, snapshots: {}, changed: Date.now() }
    const guest: Guest = { vmid, node: this.#node, type, config, ...fresh }
    this.#guests.set(vmid, guest)
    return guest
  }

  async save(guest: Guest): Promise<void> {
    guest.changed = Date.now()
    await writeState(join(this.#folder, `${guest.vmid}.json`), guest)
  }

  /** Writes a whole configuration, whatever there is now; that of a removed guest brings it back. */
  async overwrite(guest: Guest): Promise<void> {
    const there = this.#guests.get(guest.vmid)
    if (there === undefined) this.#guests.set(guest.vmid, guest)
    await this.save(there === undefined ? guest : Object.assign(there, guest))
  }

  async remove(vmid: number): Promise<void> {
    this.#guests.delete(vmid)
    await rm(join(this.#folder, `${vmid}.json`), { force: true })
  }

  /** SHA-1 over all of the configuration: compare-and-swap for clients. */
  digest(guest: Guest): string {
    const { config, pending, removals, snapshots } = guest
    return createHash('sha1').update(canonical({ config, pending, removals, snapshots })).digest('hex')
  }

  /** This node's guests of one type that are being made or removed. */
  changing(type: GuestType): Guest[] {
    return [...this.#changing].filter((guest) => guest.type === type && guest.node === this.#node)
  }

  /** The guest is being made or removed until the function that this gives is called. */
  beginChange(guest: Guest): () => void {
    this.#changing.add(guest)
    return () => this.#changing.delete(guest)
  }

  /**
   * Holds the guest's file lock. Gives the function that releases it.
   * @throws ApiError 500 when it was not free within `seconds`
   */
  acquire(vmid: number, seconds: number, options?: AcquireOptions): Promise<() => void> {
    return this.#locks.acquire(vmid, this.#lockFile(vmid), seconds, options)
  }

  #lockFile(vmid: number): string {
    return this.#guests.get(vmid)?.type === 'lxc'
      ? `/run/lock/lxc/pve-config-${vmid}.lock`
      : `/var/lock/qemu-server/lock-${vmid}.conf`
  }

  async locked<T>(
    vmid: number,
    seconds: number,
    work: () => Promise<T>,
    options?: AcquireOptions,
  ): Promise<T> {
    const release = await this.acquire(vmid, seconds, options)
    try {
      return await work()
    } finally {
      release()
    }
  }
}

/** seconds that a change waits for the lock, as Proxmox does */
export const LOCK_SECONDS = 10
/** seconds that a task waits for it: no longer, so a DELETE fails that is queued behind a long create */
export const TASK_LOCK_SECONDS = 10

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    item !== null && typeof item === 'object' && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  )
}

/** The configuration as it will be at the next start: what GET config shows. */
export function withPending(guest: Guest): GuestConfig {
  const config = { ...guest.config, ...guest.pending }
  for (const name of Object.keys(guest.removals)) delete config[name]
  return config
}

/** @throws ApiError 500 "VM is locked (…)" */
export function checkLock(guest: Guest, skip = false): void {
  const { lock } = guest.config
  if (lock !== undefined && !skip) throw failure(`${wordFor(guest.type)} is locked (${lock})`)
}

/** What Proxmox says of a configuration that is not there, or not any more. */
export function notThere({ vmid, type, node }: Pick<Guest, 'vmid' | 'type' | 'node'>): ApiError {
  const folder = type === 'lxc' ? 'lxc' : 'qemu-server'
  return failure(`Configuration file 'nodes/${node}/${folder}/${vmid}.conf' does not exist`)
}

/** Compare-and-swap. @throws ApiError 500 when the caller knows another state than this one */
export function checkDigest(store: GuestStore, guest: Guest, digest: string | undefined): void {
  if (digest === undefined || digest === store.digest(guest)) return
  throw failure(
    guest.type === 'lxc'
      ? 'detected modified configuration - file changed by other user? Try again.'
      : 'checksum mismatch (file change by other user?)',
  )
}
