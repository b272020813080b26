import { chmod, mkdir, readdir, rename, rm, rmdir, stat } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { type Disk, DiskStorage } from './disk-storage.ts'
import { readQcow2 } from './qcow2.ts'
import { formatOf, qemuImg } from './qemu-img.ts'
import type { ContentType, Log, Volume } from './world.ts'

/** Where Proxmox keeps files of each content type below a directory storage. */
const FOLDERS = {
  iso: 'template/iso',
  vztmpl: 'template/cache',
  import: 'import',
  backup: 'dump',
  snippets: 'snippets',
} as const

type FileContent = keyof typeof FOLDERS

const DISK = /^(?:(\d+)\/(base-\d+-[^/]+)\/)?(\d+)\/((?:vm|base)-\d+-[^/]+\.(?:qcow2|raw))$/
const DISK_FILE = /^(?:vm|base)-(\d+)-.+\.(?:qcow2|raw)$/
const BACKING = /^\.\.\/(\d+)\/(base-\d+-[^/]+)$/

/** Proxmox's storage type `dir`: disks as qcow2 or raw files, and all the other files. */
export class DirStorage extends DiskStorage {
  override readonly type = 'dir'
  protected override readonly granularity = 1024
  protected override readonly defaultFormat = 'raw'

  override async open(): Promise<void> {
    await super.open()
    for (const folder of ['images', ...Object.values(FOLDERS)]) {
      await mkdir(join(this.root, folder), { recursive: true })
    }
  }

  override place(content: FileContent, filename: string): { path: string; volid: string } {
    if (filename !== basename(filename) || filename.startsWith('.')) throw new Error('invalid file name')
    return { path: join(this.root, FOLDERS[content], filename), volid: `${this.id}:${content}/${filename}` }
  }

  override path(volid: string, snapshot?: string): string {
    return this.#file(volid)?.path ?? super.path(volid, snapshot)
  }

  override async list(): Promise<Volume[]> {
    const volumes: Volume[] = []
    for (const content of Object.keys(FOLDERS) as FileContent[]) {
      if (!this.content.includes(content)) continue
      for (const name of await readdir(join(this.root, FOLDERS[content]))) {
        const volume = await this.find(`${this.id}:${content}/${name}`)
        if (volume !== undefined) volumes.push(volume)
      }
    }
    return [...volumes, ...(await this.#disks())]
  }

  override async find(volid: string): Promise<Volume | undefined> {
    const file = this.#file(volid)
    if (file !== undefined) {
      const found = await stat(file.path).catch(() => undefined)
      if (!found?.isFile()) return undefined
      const { size, blocks, ctimeMs } = found
      const { content } = file
      const ctime = Math.floor(ctimeMs / 1000)
      return { volid, content, format: fileFormat(content, file.path), size, used: blocks * 512, ctime }
    }
    if (!DISK.test(this.#own(volid))) return undefined
    const disk = this.disk(volid)
    return this.#diskVolume(disk.vmid, basename(disk.path), volid)
  }

  override async remove(volid: string): Promise<void> {
    const path = this.path(volid)
    if ((await this.find(volid)) === undefined) throw new Error(`volume '${volid}' does not exist`)
    if (basename(path).startsWith('base-') && (await this.clonesOf(volid)).length > 0) {
      throw new Error(`base volume '${this.#own(volid)}' is still in use by linked clones`)
    }
    await rm(path)
    // Fails while other disks of this guest are there, and shall.
    if (this.#file(volid) === undefined) await rmdir(dirname(path)).catch(() => undefined)
  }

  override async toBase(volid: string): Promise<Volume> {
    const { path, vmid } = this.disk(volid)
    const name = basename(path).replace(/^vm-/, 'base-')
    const target = join(dirname(path), name)
    await rename(path, target)
    await chmod(target, 0o444)
    const volume = await this.#diskVolume(vmid, name)
    if (volume === undefined) throw new Error(`volume '${volid}' does not exist`)
    return volume
  }

  override async linkedClone(baseVolid: string, vmid: number, log: Log): Promise<Volume> {
    const base = this.disk(baseVolid)
    const backing = `../${base.vmid}/${basename(base.path)}`
    return this.allocate(
      vmid,
      undefined,
      (name) => this.newDisk(vmid, name, 'qcow2'),
      async (partial, disk) => {
        log(
          `clone ${this.#own(baseVolid)}: images, ${basename(disk.path)}, ${vmid} to ${basename(disk.path)} (base=${backing})`,
        )
        const formats = ['-f', 'qcow2', '-F', formatOf(base.path)]
        this.logFormatting(await qemuImg(['create', '-b', backing, ...formats, partial], { log }), log)
      },
    )
  }

  override async clonesOf(baseVolid: string): Promise<string[]> {
    const { vmid, path } = this.disk(baseVolid)
    const parent = `${vmid}/${basename(path)}`
    return (await this.#disks())
      .filter((disk) => disk.parent?.endsWith(`:${parent}`))
      .map(({ volid }) => volid)
  }

  protected override keepFormat(source: string): string {
    return source === 'qcow2' ? 'qcow2' : 'raw'
  }

  protected override disk(volid: string): Disk {
    const [, , , owner, file] = DISK.exec(this.#own(volid)) ?? []
    if (owner === undefined || file === undefined)
      throw new Error(`unable to parse directory volume name '${volid}'`)
    return {
      vmid: Number(owner),
      name: file.replace(/\.[^.]+$/, ''),
      path: this.#imagePath(owner, file),
      volid,
    }
  }

  protected override newDisk(vmid: number, name: string, format: string | undefined): Disk {
    if (format !== 'raw' && format !== 'qcow2') throw new Error(`unsupported format '${format}'`)
    const file = `${name}.${format}`
    return { vmid, name, path: this.#imagePath(vmid, file), volid: `${this.id}:${vmid}/${file}` }
  }

  protected override newRoot(vmid: number, name: string): Disk {
    return this.newDisk(vmid, name, 'raw')
  }

  protected override async found(volid: string): Promise<Volume> {
    const disk = this.disk(volid)
    const volume = await this.#diskVolume(disk.vmid, basename(disk.path))
    if (volume === undefined) throw new Error(`volume '${volid}' does not exist`)
    return volume
  }

  async #disks(): Promise<Volume[]> {
    const volumes: Volume[] = []
    for (const owner of await readdir(join(this.root, 'images'))) {
      if (!/^\d+$/.test(owner)) continue
      for (const file of await readdir(join(this.root, 'images', owner)).catch(() => [])) {
        if (DISK_FILE.exec(file)?.[1] !== owner) continue
        const volume = await this.#diskVolume(Number(owner), file)
        if (volume !== undefined) volumes.push(volume)
      }
    }
    return volumes
  }

  /** `asked`: the id under which it was looked for; a linked clone's own id also names its base. */
  async #diskVolume(vmid: number, file: string, asked?: string): Promise<Volume | undefined> {
    const path = this.#imagePath(vmid, file)
    const found = await stat(path).catch(() => undefined)
    if (!found?.isFile()) return undefined
    const header = formatOf(path) === 'qcow2' ? await readQcow2(path) : undefined
    const [, baseOwner, base] = BACKING.exec(header?.backing ?? '') ?? []
    const own = `${vmid}/${file}`
    const volid = `${this.id}:${base === undefined ? own : `${baseOwner}/${base}/${own}`}`
    return {
      volid: asked ?? volid,
      content: 'images',
      format: formatOf(path),
      size: header?.virtualSize ?? found.size,
      used: found.blocks * 512,
      ctime: Math.floor(found.ctimeMs / 1000),
      vmid,
      ...(base !== undefined && { parent: `${this.id}:${baseOwner}/${base}` }),
    }
  }

  #imagePath(owner: number | string, file: string): string {
    return join(this.root, 'images', String(owner), file)
  }

  #file(volid: string): { content: ContentType; path: string } | undefined {
    const [, content, name] = /^([a-z]+)\/([^/]+)$/.exec(this.#own(volid)) ?? []
    if (content === undefined || name === undefined || !(content in FOLDERS) || name.startsWith('.'))
      return undefined
    return { content: content as ContentType, path: join(this.root, FOLDERS[content as FileContent], name) }
  }

  #own(volid: string): string {
    if (!volid.startsWith(`${this.id}:`)) throw new Error(`volume '${volid}' is not on storage '${this.id}'`)
    return volid.slice(this.id.length + 1)
  }
}

/** What Proxmox calls the format of a file that is no disk. */
function fileFormat(content: ContentType, path: string): string {
  if (content === 'iso') return 'iso'
  if (content === 'snippets') return 'snippet'
  const [, archive, compression] = /\.(tar|vma)(?:\.(gz|xz|zst|lzo))?$/.exec(path) ?? []
  if (content === 'vztmpl') return `t${compression ?? 'ar'}`
  if (content === 'backup') return [archive, compression].filter(Boolean).join('.')
  return extname(path).slice(1)
}
