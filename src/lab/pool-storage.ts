import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, lstat, readdir, readlink, rename, rm, stat, symlink } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import { ifThere } from '../core/if-there.ts'
import { Turns } from '../core/turns.ts'
import { type Disk, DiskStorage, type StorageOptions } from './disk-storage.ts'
import { readQcow2 } from './qcow2.ts'
import { formatOf, qemuImg } from './qemu-img.ts'
import { copyRoot } from './root-copy.ts'
import { RootSnapshots } from './root-snapshots.ts'
import type { Log, Volume } from './world.ts'

const VOLUME = /^(?:(base-\d+-[^/]+)\/)?((?:vm|base)-(\d+)-[^/]+)$/
const VOLUME_FILE = /^(?:vm|base)-.*\.(?:qcow2|raw)$/
const LAYER = '.layer-'
const ORIGIN = '.origin-'
const MiB = 1 << 20

/**
 * What LVM-thin and ZFS look like from outside: raw disks only, snapshots and clones on the storage, no files.
 * Beneath there is no device-mapper and no ZFS but files in one folder: `<name>.qcow2`, for the root of a container,
 * which must be mounted, `<name>.raw`. A base volume is a link to a read-only layer, which linked clones have as
 * their backing file; so a thin volume can go while its clones stay, as on LVM-thin, and its layer goes with the
 * last of them. A raw file has no backing file: a linked clone of a root is a copy, which nobody outside can tell.
 */
export class PoolStorage extends DiskStorage {
  override readonly type: 'lvmthin' | 'zfspool'
  protected override readonly granularity: number
  protected override readonly defaultFormat = 'raw'
  /** what changes who needs which layer */
  readonly #layers = new Turns()
  readonly #rootSnapshots: RootSnapshots

  constructor(type: 'lvmthin' | 'zfspool', options: StorageOptions) {
    super(options)
    this.type = type
    // An extent of LVM; what Proxmox aligns ZFS volumes to.
    this.granularity = type === 'lvmthin' ? 4 * MiB : MiB
    this.#rootSnapshots = new RootSnapshots(options.root)
  }

  override place(): never {
    throw new Error(`can't upload to storage type '${this.type}'`)
  }

  override path(volid: string, snapshot?: string): string {
    const { path, name } = this.disk(volid)
    return snapshot === undefined ? path : this.#rootSnapshots.path(name, snapshot)
  }

  override async list(): Promise<Volume[]> {
    const bases = await this.#bases()
    const files = (await readdir(this.root)).filter((file) => VOLUME_FILE.test(file))
    const volumes = await Promise.all(files.map((file) => this.#volume(file.replace(/\.[^.]+$/, ''), bases)))
    return volumes.filter((volume) => volume !== undefined)
  }

  override async find(volid: string): Promise<Volume | undefined> {
    if (!VOLUME.test(this.#own(volid))) return undefined
    const volume = await this.#volume(this.disk(volid).name, await this.#bases())
    return volume && { ...volume, volid }
  }

  override remove(volid: string): Promise<void> {
    return this.#layers.take(async () => {
      if ((await this.find(volid)) === undefined) throw new Error(`volume '${volid}' does not exist`)
      if ((await this.clonesOf(volid)).length > 0) {
        throw new Error(`base volume '${this.#own(volid)}' is still in use by linked clones`)
      }
      const { path, name } = this.disk(volid)
      await rm(path)
      await this.#rootSnapshots.removeAll(name)
      await rm(this.#origin(name), { force: true })
      await this.#dropLayers()
    })
  }

  override toBase(volid: string): Promise<Volume> {
    return this.#layers.take(async () => {
      const { path, name } = this.disk(volid)
      const layer = `${LAYER}${randomUUID()}${extname(path)}`
      const base = name.replace(/^vm-/, 'base-')
      await rename(path, join(this.root, layer))
      await symlink(layer, join(this.root, `${base}${extname(path)}`))
      await chmod(join(this.root, layer), 0o444)
      await rename(this.#origin(name), this.#origin(base)).catch(() => undefined)
      return this.found(`${this.id}:${base}`)
    })
  }

  override linkedClone(baseVolid: string, vmid: number, log: Log): Promise<Volume> {
    return this.#layers.take(async () => {
      const { path } = this.disk(baseVolid)
      const layer = await readlink(path)
      if (formatOf(path) === 'qcow2') {
        return this.allocate(vmid, undefined, this.#place(vmid, 'qcow2'), async (partial) => {
          await qemuImg(['create', '-q', '-f', 'qcow2', '-b', layer, '-F', 'qcow2', partial], { log })
        })
      }
      return this.allocate(vmid, undefined, this.#place(vmid, 'raw'), async (partial, { name }) => {
        await copyRoot(path, partial)
        await rm(this.#origin(name), { force: true })
        await symlink(layer, this.#origin(name))
      })
    })
  }

  override async clonesOf(baseVolid: string): Promise<string[]> {
    return (await this.list())
      .filter(({ parent }) => parent === this.#plain(baseVolid))
      .map(({ volid }) => volid)
  }

  override async snapshots(volid: string): Promise<string[]> {
    const { path, name } = this.disk(volid)
    return formatOf(path) === 'raw' ? this.#rootSnapshots.list(name) : super.snapshots(volid)
  }

  override async snapshot(volid: string, name: string): Promise<void> {
    const disk = this.disk(volid)
    if (formatOf(disk.path) === 'raw') await this.#rootSnapshots.create(disk.path, disk.name, name)
    else await super.snapshot(volid, name)
  }

  override async rollback(volid: string, name: string): Promise<void> {
    if (this.type === 'zfspool' && (await this.snapshots(volid)).at(-1) !== name) {
      throw new Error(`can't rollback, '${name}' is not most recent snapshot on '${volid}'`)
    }
    const disk = this.disk(volid)
    if (formatOf(disk.path) === 'raw') await copyRoot(this.path(volid, name), disk.path)
    else await super.rollback(volid, name)
  }

  override async deleteSnapshot(volid: string, name: string): Promise<void> {
    if (formatOf(this.disk(volid).path) === 'raw') await rm(this.path(volid, name))
    else await super.deleteSnapshot(volid, name)
  }

  protected override keepFormat(): string {
    return 'raw'
  }

  /** lvcreate and zfs say nothing of images. */
  protected override logFormatting(_output: string, log: Log): void {
    if (this.type === 'lvmthin') log('  Logical volume created.')
  }

  protected override disk(volid: string): Disk {
    const [, , name, vmid] = VOLUME.exec(this.#own(volid)) ?? []
    if (name === undefined) throw new Error(`unable to parse ${this.type} volume name '${volid}'`)
    return { vmid: Number(vmid), name, path: this.#path(name), volid }
  }

  protected override newDisk(vmid: number, name: string, format: string | undefined): Disk {
    if (format !== 'raw') throw new Error(`unsupported format '${format}'`)
    return this.#place(vmid, 'qcow2')(name)
  }

  protected override newRoot(vmid: number, name: string): Disk {
    return this.#place(vmid, 'raw')(name)
  }

  protected override async found(volid: string): Promise<Volume> {
    const volume = await this.#volume(this.disk(volid).name, await this.#bases())
    if (volume === undefined) throw new Error(`volume '${volid}' does not exist`)
    return volume
  }

  #place(vmid: number, suffix: 'qcow2' | 'raw'): (name: string) => Disk {
    return (name) => ({
      ...{ vmid, name, volid: `${this.id}:${name}` },
      path: join(this.root, `${name}.${suffix}`),
    })
  }

  /** Only the file itself tells what it is: names of volumes have no suffix here. */
  #path(name: string): string {
    const root = join(this.root, `${name}.raw`)
    return existsSync(root) ? root : join(this.root, `${name}.qcow2`)
  }

  async #volume(name: string, bases: Map<string, string>): Promise<Volume | undefined> {
    const path = this.#path(name)
    const found = await stat(path).catch(() => undefined)
    if (found === undefined) return undefined
    const header = formatOf(path) === 'qcow2' ? await readQcow2(path) : { virtualSize: found.size }
    if (header === undefined) return undefined
    // LVM-thin forgets where a clone came from; ZFS names it in the id.
    const base = this.type === 'zfspool' ? bases.get((await this.#layerOf(path)) ?? '') : undefined
    return {
      volid: `${this.id}:${base === undefined ? name : `${base}/${name}`}`,
      content: 'images',
      format: 'raw',
      size: header.virtualSize,
      used: found.blocks * 512,
      ctime: Math.floor(found.ctimeMs / 1000),
      vmid: Number(/^\w+-(\d+)-/.exec(name)?.[1]),
      ...(base !== undefined && { parent: `${this.id}:${base}` }),
    }
  }

  /** The layer that a linked clone was made from. */
  async #layerOf(path: string): Promise<string | undefined> {
    if (formatOf(path) === 'qcow2') return (await readQcow2(path))?.backing
    return readlink(this.#origin(basename(path, '.raw'))).catch(() => undefined)
  }

  /** a link beside a root that is a linked clone: a raw file cannot say where it came from */
  #origin(name: string): string {
    return join(this.root, `${ORIGIN}${name}`)
  }

  /** layer file → name of the base volume that it is */
  async #bases(): Promise<Map<string, string>> {
    const bases = new Map<string, string>()
    for (const file of await readdir(this.root)) {
      if (!file.startsWith('base-')) continue
      const layer = await ifThere(readlink(join(this.root, file)))
      if (layer !== undefined) bases.set(layer, file.replace(/\.[^.]+$/, ''))
    }
    return bases
  }

  /** Removes the layers that neither a base volume nor a clone needs any more. */
  async #dropLayers(): Promise<void> {
    for (;;) {
      const files = await readdir(this.root)
      const needed = new Set<string | undefined>()
      for (const file of files.filter((name) => !name.startsWith(ORIGIN))) {
        const path = join(this.root, file)
        // Disks that need no layer come and go meanwhile.
        const found = await ifThere(lstat(path))
        if (found?.isSymbolicLink()) needed.add(await readlink(path))
        else if (found !== undefined && formatOf(path) === 'qcow2')
          needed.add((await readQcow2(path))?.backing)
      }
      const idle = files.filter((file) => file.startsWith(LAYER) && !needed.has(file))
      if (idle.length === 0) return
      for (const file of idle) await rm(join(this.root, file))
    }
  }

  #plain(volid: string): string {
    return `${this.id}:${this.disk(volid).name}`
  }

  #own(volid: string): string {
    if (!volid.startsWith(`${this.id}:`)) throw new Error(`volume '${volid}' is not on storage '${this.id}'`)
    return volid.slice(this.id.length + 1)
  }
}
