import type { Duplex } from 'node:stream'

/**
 * What the lab's API needs from the world below it: storages with volumes, and virtual machines. The API
 * (src/lab/api/) knows Proxmox's words and rules, these know files and processes; neither knows the other's.
 * Sizes are bytes, times are Unix seconds.
 */

/** Appends a line to the log of the task on whose behalf the work is done. */
export type Log = (line: string) => void

export type ContentType = 'images' | 'rootdir' | 'iso' | 'vztmpl' | 'import' | 'backup' | 'snippets'

export interface Volume {
  volid: string
  content: ContentType
  format: string
  /** virtual size for disks, file size for files */
  size: number
  /** bytes allocated on the storage */
  used: number
  ctime: number
  /** owner, for disks */
  vmid?: number
  /** volid of the base volume, for linked clones */
  parent?: string
}

export interface Storage {
  readonly id: string
  /** Proxmox's name of the type: behaviour follows it */
  readonly type: 'dir' | 'lvmthin' | 'zfspool'
  readonly content: readonly ContentType[]
  status(): Promise<{ total: number; used: number; avail: number }>
  list(): Promise<Volume[]>
  /** undefined where there is no such volume */
  find(volid: string): Promise<Volume | undefined>
  /** the file (or block device) behind a volume */
  path(volid: string): string
  remove(volid: string): Promise<void>

  // files: dir storages only
  /** where a file of this content type lies, existing or not; its volid */
  place(content: 'iso' | 'vztmpl' | 'import', filename: string): { path: string; volid: string }

  // disks; names are the storage's business: read them back from the volume
  createDisk(vmid: number, size: number, format: string | undefined, log: Log): Promise<Volume>
  /** copies (converting as needed) the image file at `source` into a new disk */
  importDisk(vmid: number, source: string, format: string | undefined, log: Log, signal?: AbortSignal): Promise<Volume>
  resize(volid: string, size: number, log: Log): Promise<void>
  /** for templates: vm-100-disk-0 → base-100-disk-0 */
  toBase(volid: string): Promise<Volume>
  linkedClone(baseVolid: string, vmid: number, log: Log): Promise<Volume>
  /** for the given volume of any storage; `snapshot`: that state instead of the current one */
  fullClone(
    from: { storage: Storage; volid: string; snapshot?: string },
    vmid: number,
    format: string | undefined,
    log: Log,
    signal?: AbortSignal,
  ): Promise<Volume>
  snapshot(volid: string, name: string): Promise<void>
  rollback(volid: string, name: string): Promise<void>
  deleteSnapshot(volid: string, name: string): Promise<void>
  /** volids of the linked clones of a base volume */
  clonesOf(baseVolid: string): Promise<string[]>
}

export interface Drive {
  /** scsi0, ide2, virtio0, sata1, efidisk0 */
  slot: string
  media: 'disk' | 'cdrom'
  /** undefined: an empty CD-ROM drive */
  path?: string
  format?: string
  /** discard=on, ssd=1, iothread=1, cache=… as Proxmox has them */
  options: Record<string, string>
}

export interface Nic {
  /** net0 … */
  slot: string
  model: string
  mac: string
  bridge: string
  /** vlan tag, firewall, mtu, … */
  options: Record<string, string>
}

/** A machine to start: Proxmox's configuration, resolved to paths. */
export interface MachineSpec {
  vmid: number
  name: string
  cores: number
  sockets: number
  /** MiB */
  memory: number
  cpu?: string
  bios: 'seabios' | 'ovmf'
  machine?: string
  scsihw?: string
  /** boot order as slots, first first */
  boot: string[]
  drives: Drive[]
  nics: Nic[]
  /** serial0: socket */
  serial: boolean
  agent: boolean
  vga?: string
  smbiosUuid: string
}

export interface MachineStatus {
  running: boolean
  /** QEMU's own word: running, paused, … */
  qmpstatus: string
  pid?: number
  /** seconds */
  uptime: number
  /** resident bytes of the QEMU process */
  mem: number
  netin: number
  netout: number
  diskread: number
  diskwrite: number
}

export interface Machines {
  start(spec: MachineSpec, log: Log): Promise<void>
  stop(vmid: number): Promise<void>
  reset(vmid: number): Promise<void>
  /** by guest agent where the machine has one, else ACPI; rejects with Proxmox's words when `seconds` are over */
  shutdown(vmid: number, seconds: number): Promise<void>
  status(vmid: number): Promise<MachineStatus>
  changeMedium(vmid: number, slot: string, path: string | undefined): Promise<void>
  /** one guest-agent command; rejects with `QEMU guest agent is not running` when it does not answer */
  agent(vmid: number, command: string, args?: Record<string, unknown>): Promise<unknown>
  /** a human monitor command */
  monitor(vmid: number, command: string): Promise<string>
  /** the serial console, live from now on */
  console(vmid: number): Promise<Duplex>
  /** ids of all that run, those started by an earlier daemon on this folder too */
  running(): Promise<number[]>
  stopAll(): Promise<void>
}
