import { mkdir, readdir, rename, rm, rmdir, stat, statfs } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { ifThere } from '../core/if-there.ts'
import { Turns } from '../core/turns.ts'
import { refuseForeignFiles } from './foreign-files.ts'
import { readQcow2 } from './qcow2.ts'
import {
  convert,
  convertCommand,
  failure,
  formatOf,
  measure,
  PARTIAL,
  qemuImg,
  virtualSize,
} from './qemu-img.ts'
import { copyRoot } from './root-copy.ts'
import type { ContentType, Log, Storage, Volume } from './world.ts'

/** A disk's place, as told by its volume id. */
export interface Disk {
  vmid: number
  /** file name without suffix: vm-100-disk-0 */
  name: string
  path: string
  volid: string
}

export interface StorageOptions {
  id: string
  root: string
  content: readonly ContentType[]
  /** bytes; what does not fit any more fails as on a full disk. Without: as much as the file system has */
  limit?: number | undefined
  /** all nodes see the same volumes on it; default: each node has one of its own */
  shared?: boolean | undefined
}

/**
 * Disks as files, with qemu-img doing all work on them. What the kinds of storage differ in (names, formats,
 * base volumes, linked clones) is their own; a disk appears under its name only when it is complete.
 */
export abstract class DiskStorage implements Storage {
  abstract readonly type: Storage['type']
  readonly id: string
  readonly content: readonly ContentType[]
  readonly shared: boolean
  protected readonly root: string
  readonly #limit: number | undefined
  readonly #reserved = new Set<string>()
  readonly #naming = new Turns()

  constructor({ id, root, content, limit, shared = false }: StorageOptions) {
    this.id = id
    this.root = root
    this.content = content
    this.shared = shared
    this.#limit = limit
  }

  abstract list(): Promise<Volume[]>
  abstract find(volid: string): Promise<Volume | undefined>
  abstract remove(volid: string): Promise<void>
  abstract place(content: 'iso' | 'vztmpl' | 'import', filename: string): { path: string; volid: string }
  abstract toBase(volid: string): Promise<Volume>
  abstract linkedClone(baseVolid: string, vmid: number, log: Log): Promise<Volume>
  abstract clonesOf(baseVolid: string): Promise<string[]>

  /** @throws when this is not the id of a disk */
  protected abstract disk(volid: string): Disk
  /** the file of a new disk; throws for a format that the storage does not have */
  protected abstract newDisk(vmid: number, name: string, format: string | undefined): Disk
  /** the file of a new root of a container: raw, whatever the storage's disks are */
  protected abstract newRoot(vmid: number, name: string): Disk
  /** sizes are multiples of this many bytes */
  protected abstract readonly granularity: number

  path(volid: string, snapshot?: string): string {
    if (snapshot !== undefined) throw new Error('snapshot feature is not available')
    return this.disk(volid).path
  }

  /** Makes the folders, and removes what an operation that was killed has left. */
  async open(): Promise<void> {
    await mkdir(this.root, { recursive: true, mode: 0o700 })
    for (const entry of await readdir(this.root, { recursive: true, withFileTypes: true })) {
      if (entry.name.startsWith(PARTIAL)) await rm(join(entry.parentPath, entry.name), { force: true })
    }
  }

  async status(): Promise<{ total: number; used: number; avail: number }> {
    const used = await allocated(this.root)
    const { bavail, bsize } = await statfs(this.root)
    const free = bavail * bsize
    if (this.#limit === undefined) return { total: used + free, used, avail: free }
    return { total: this.#limit, used, avail: Math.max(0, Math.min(this.#limit - used, free)) }
  }

  async createDisk(
    vmid: number,
    size: number,
    format: string | undefined,
    log: Log,
    name?: string,
  ): Promise<Volume> {
    const place = this.#placeDisk(vmid, format ?? this.defaultFormat)
    return this.allocate(vmid, name, place, async (partial) => {
      const args = ['create', '-f', formatOf(partial), partial, String(this.#round(size))]
      await this.#demand(1 << 18, args, log)
      this.logFormatting(await qemuImg(args, { log }), log)
    })
  }

  async createRoot(vmid: number, size: number, log: Log): Promise<Volume> {
    return this.allocate(vmid, undefined, this.#placeRoot(vmid), async (partial) => {
      const options = ['-f', 'raw', '-o', 'preallocation=off']
      this.logFormatting(
        await qemuImg(['create', ...options, partial, String(this.#round(size))], { log }),
        log,
      )
    })
  }

  async cloneRoot(
    from: { storage: Storage; volid: string; snapshot?: string },
    vmid: number,
    log: Log,
    signal?: AbortSignal,
  ): Promise<Volume> {
    const source = from.storage.path(from.volid, from.snapshot)
    const { size, blocks } = await stat(source).catch(() => {
      throw new Error(`volume '${from.volid}' does not exist`)
    })
    return this.allocate(vmid, undefined, this.#placeRoot(vmid), async (partial, disk) => {
      await this.#demand(blocks * 512, ['create', '-f', 'raw', disk.path, String(size)], log)
      await copyRoot(source, partial, { size: this.#round(size), signal })
      this.logFormatting(
        `Formatting '${disk.path}', fmt=raw size=${this.#round(size)} preallocation=off`,
        log,
      )
    })
  }

  async importDisk(
    vmid: number,
    source: string,
    format: string | undefined,
    log: Log,
    signal?: AbortSignal,
  ): Promise<Volume> {
    await refuseForeignFiles(source)
    return this.#copy(vmid, { source }, format ?? this.keepFormat(formatOf(source)), log, signal)
  }

  async fullClone(
    from: { storage: Storage; volid: string; snapshot?: string },
    vmid: number,
    format: string | undefined,
    log: Log,
    signal?: AbortSignal,
  ): Promise<Volume> {
    const original = await from.storage.find(from.volid)
    if (original === undefined) throw new Error(`volume '${from.volid}' does not exist`)
    const source = from.storage.path(from.volid)
    const { snapshot } = from
    return this.#copy(vmid, { source, snapshot }, format ?? this.keepFormat(original.format), log, signal)
  }

  async fill(volid: string, source: string): Promise<void> {
    const { path } = this.disk(volid)
    const { size } = await stat(source)
    // dd of qemu-img cannot write into an existing image; a raw view of its first bytes as target can be.
    const target = `json:${JSON.stringify({
      driver: 'raw',
      size: Math.ceil(size / 512) * 512,
      file: { driver: formatOf(path), file: { driver: 'file', filename: path } },
    })}`
    await qemuImg(['convert', '-n', '-f', 'raw', '-O', 'raw', source, target])
  }

  async resize(volid: string, size: number, log: Log): Promise<void> {
    const { path } = this.disk(volid)
    const args = ['resize', '-f', formatOf(path), path, String(this.#round(size))]
    for (const line of (await qemuImg(args, { log })).split('\n')) if (line !== '') log(line)
  }

  async snapshots(volid: string): Promise<string[]> {
    return (await readQcow2(this.disk(volid).path))?.snapshots ?? []
  }

  async snapshot(volid: string, name: string): Promise<void> {
    await this.#snapshotCommand('-c', volid, name)
  }

  async rollback(volid: string, name: string): Promise<void> {
    await this.#snapshotCommand('-a', volid, name)
  }

  async deleteSnapshot(volid: string, name: string): Promise<void> {
    await this.#snapshotCommand('-d', volid, name)
  }

  async #snapshotCommand(flag: string, volid: string, name: string): Promise<void> {
    const { path } = this.disk(volid)
    if (formatOf(path) !== 'qcow2') throw new Error('snapshot feature is not available')
    const lines: string[] = []
    await qemuImg(['snapshot', flag, name, path], { log: (line) => lines.push(line) }).catch(
      (error: Error) => {
        throw new Error([error.message, ...lines].join(': '))
      },
    )
  }

  protected abstract readonly defaultFormat: string
  /** the format of a copy when none was asked for */
  protected abstract keepFormat(source: string): string

  /** qemu-img says where it writes; the name until completion is nobody's business. */
  protected logFormatting(output: string, log: Log): void {
    for (const line of output.split('\n')) if (line !== '') log(line.replace(PARTIAL, ''))
  }

  /** Reserves a name, lets `write` make the file under another one, and gives it its name when it is complete. */
  protected async allocate(
    vmid: number,
    name: string | undefined,
    place: (name: string) => Disk,
    write: (partial: string, disk: Disk) => Promise<void>,
  ): Promise<Volume> {
    const disk = await this.#naming.take(() => this.#reserve(vmid, name, place))
    const partial = join(dirname(disk.path), `${PARTIAL}${basename(disk.path)}`)
    try {
      await mkdir(dirname(disk.path), { recursive: true })
      await write(partial, disk)
      await rename(partial, disk.path)
    } catch (error) {
      await rm(partial, { force: true })
      // A folder of the guest's own goes with its last file; it fails while there are others, and shall.
      if (dirname(partial) !== this.root) await rmdir(dirname(partial)).catch(() => undefined)
      throw error
    } finally {
      await this.#naming.take(async () => this.#reserved.delete(disk.name))
    }
    return this.found(disk.volid)
  }

  protected async found(volid: string): Promise<Volume> {
    const volume = await this.find(volid)
    if (volume === undefined) throw new Error(`volume '${volid}' does not exist`)
    return volume
  }

  async #copy(
    vmid: number,
    from: { source: string; snapshot?: string | undefined },
    format: string,
    log: Log,
    signal?: AbortSignal,
  ): Promise<Volume> {
    const size = await virtualSize(from.source)
    return this.allocate(vmid, undefined, this.#placeDisk(vmid, format), async (partial, disk) => {
      const copy = { ...from, target: partial }
      try {
        const shown = convertCommand({ ...from, target: disk.path })
        await this.#demand(await measure(copy), shown, log)
        await convert(copy, size, log, signal)
        const rounded = this.#round(size)
        if (rounded !== size)
          await qemuImg(['resize', '-q', '-f', formatOf(partial), partial, String(rounded)])
      } catch (error) {
        throw new Error(`copy failed: ${(error as Error).message.replaceAll(PARTIAL, '')}`)
      }
    })
  }

  /** Only a limit needs asking beforehand: a full file system says so itself. */
  async #demand(bytes: number, args: readonly string[], log: Log): Promise<void> {
    if (this.#limit === undefined) return
    const { avail } = await this.status()
    if (bytes <= avail) return
    log(`qemu-img: error while writing at byte ${avail}: No space left on device`)
    throw new Error(failure(args, 'exit code 1').replaceAll(PARTIAL, ''))
  }

  #round(size: number): number {
    return Math.ceil(size / this.granularity) * this.granularity
  }

  async #taken(vmid: number): Promise<Set<string>> {
    const disks = (await this.list()).filter((volume) => volume.vmid === vmid)
    return new Set(disks.map(({ volid }) => this.disk(volid).name))
  }

  #placeDisk(vmid: number, format: string): (name: string) => Disk {
    return (name) => this.newDisk(vmid, name, format)
  }

  #placeRoot(vmid: number): (name: string) => Disk {
    return (name) => this.newRoot(vmid, name)
  }

  async #reserve(vmid: number, name: string | undefined, place: (name: string) => Disk): Promise<Disk> {
    const taken = new Set([...(await this.#taken(vmid)), ...this.#reserved])
    const disk = place(name ?? freeName(vmid, taken))
    if (taken.has(disk.name)) throw new Error(`disk image '${disk.path}' already exists`)
    this.#reserved.add(disk.name)
    return disk
  }
}

function freeName(vmid: number, taken: ReadonlySet<string>): string {
  for (let number = 0; ; number++) {
    const name = `vm-${vmid}-disk-${number}`
    if (!taken.has(name) && !taken.has(`base-${vmid}-disk-${number}`)) return name
  }
}

/** Bytes on disk of all files below a folder. */
async function allocated(folder: string): Promise<number> {
  let total = 0
  for (const entry of (await ifThere(readdir(folder, { withFileTypes: true }))) ?? []) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) total += await allocated(path)
    else if (entry.isFile()) total += ((await ifThere(stat(path)))?.blocks ?? 0) * 512
  }
  return total
}
