import { randomUUID } from 'node:crypto'
import { chmod, lstat, readdir, readlink, rename, rm, stat, symlink } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { type Disk, DiskStorage, type StorageOptions } from './disk-storage.ts'
import { readQcow2 } from './qcow2.ts'
import { qemuImg } from './qemu-img.ts'
import { Turns } from './turns.ts'
import type { Log, Volume } from './world.ts'

const VOLUME = /^(?:(base-\d+-[^/]+)\/)?((?:vm|base)-(\d+)-[^/]+)$/
const LAYER = '.layer-'
const MiB = 1 << 20

/**
 * What LVM-thin and ZFS look like from outside: raw disks only, snapshots and clones on the storage, no files.
 * Beneath there is no device-mapper and no ZFS but qcow2 files in one folder: `<name>.qcow2`. A base volume is a
 * link to a read-only layer, which linked clones have as their backing file; so a thin volume can go while its
 * clones stay, as on LVM-thin, and its layer goes with the last of them.
 */
export class PoolStorage extends DiskStorage {
  override readonly type: 'lvmthin' | 'zfspool'
  protected override readonly granularity: number
  protected override readonly defaultFormat = 'raw'
  /** what changes who needs which layer */
  readonly #layers = new Turns()

  constructor(type: 'lvmthin' | 'zfspool', options: StorageOptions) {
    super(options)
    this.type = type
    // An extent of LVM; what Proxmox aligns ZFS volumes to.
    this.granularity = type === 'lvmthin' ? 4 * MiB : MiB
  }

  override place(): never {
    throw new Error(`can't upload to storage type '${this.type}'`)
  }

  override async list(): Promise<Volume[]> {
    const bases = await this.#bases()
    const files = (await readdir(this.root)).filter((file) => /^(vm|base)-.*\.qcow2$/.test(file))
    const volumes = await Promise.all(files.map((file) => this.#volume(basename(file, '.qcow2'), bases)))
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
      await rm(this.disk(volid).path)
      await this.#dropLayers()
    })
  }

  override toBase(volid: string): Promise<Volume> {
    return this.#layers.take(async () => {
      const { path, name } = this.disk(volid)
      const layer = `${LAYER}${randomUUID()}.qcow2`
      const base = name.replace(/^vm-/, 'base-')
      await rename(path, join(this.root, layer))
      await symlink(layer, join(this.root, `${base}.qcow2`))
      await chmod(join(this.root, layer), 0o444)
      return this.found(`${this.id}:${base}`)
    })
  }

  override linkedClone(baseVolid: string, vmid: number, log: Log): Promise<Volume> {
    return this.#layers.take(async () => {
      const layer = await readlink(this.disk(baseVolid).path)
      return this.allocate(vmid, undefined, 'raw', async (partial) => {
        await qemuImg(['create', '-q', '-f', 'qcow2', '-b', layer, '-F', 'qcow2', partial], { log })
      })
    })
  }

  override async clonesOf(baseVolid: string): Promise<string[]> {
    return (await this.list())
      .filter(({ parent }) => parent === this.#plain(baseVolid))
      .map(({ volid }) => volid)
  }

  override async rollback(volid: string, name: string): Promise<void> {
    if (this.type === 'zfspool' && (await this.snapshots(volid)).at(-1) !== name) {
      throw new Error(`can't rollback, '${name}' is not most recent snapshot on '${volid}'`)
    }
    await super.rollback(volid, name)
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
    return { vmid: Number(vmid), name, path: join(this.root, `${name}.qcow2`), volid }
  }

  protected override newDisk(vmid: number, name: string, format: string | undefined): Disk {
    if (format !== 'raw') throw new Error(`unsupported format '${format}'`)
    return { vmid, name, path: join(this.root, `${name}.qcow2`), volid: `${this.id}:${name}` }
  }

  protected override async found(volid: string): Promise<Volume> {
    const volume = await this.#volume(this.disk(volid).name, await this.#bases())
    if (volume === undefined) throw new Error(`volume '${volid}' does not exist`)
    return volume
  }

  async #volume(name: string, bases: Map<string, string>): Promise<Volume | undefined> {
    const path = join(this.root, `${name}.qcow2`)
    const found = await stat(path).catch(() => undefined)
    const header = found && (await readQcow2(path))
    if (found === undefined || header === undefined) return undefined
    // LVM-thin forgets where a clone came from; ZFS names it in the id.
    const base = this.type === 'zfspool' ? bases.get(header.backing ?? '') : undefined
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

  /** layer file → name of the base volume that it is */
  async #bases(): Promise<Map<string, string>> {
    const bases = new Map<string, string>()
    for (const file of await readdir(this.root)) {
      if (file.startsWith('base-')) bases.set(await readlink(join(this.root, file)), basename(file, '.qcow2'))
    }
    return bases
  }

  /** Removes the layers that neither a base volume nor a clone needs any more. */
  async #dropLayers(): Promise<void> {
    for (;;) {
      const files = await readdir(this.root)
      const needed = new Set<string | undefined>()
      for (const file of files) {
        const path = join(this.root, file)
        if ((await lstat(path)).isSymbolicLink()) needed.add(await readlink(path))
        else needed.add((await readQcow2(path))?.backing)
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
