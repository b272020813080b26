import type { Duplex } from 'node:stream'

/**
 * What the lab's API needs from the world below it: storages with volumes, virtual machines and containers. The API
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
  /** all nodes see the same volumes on it */
  readonly shared: boolean
  status(): Promise<{ total: number; used: number; avail: number }>
  list(): Promise<Volume[]>
  /** undefined where there is no such volume */
  find(volid: string): Promise<Volume | undefined>
  /**
   * The file behind a volume. Its suffix names its real format, which is not always the one that the volume
   * reports: the disks of a raw-only storage lie in qcow2 files. Write into one with `fill`, never directly.
   * `snapshot`: the file of that state, which only snapshots of containers' roots have.
   */
  path(volid: string, snapshot?: string): string
  remove(volid: string): Promise<void>

  // files: dir storages only
  /** where a file of this content type lies, existing or not; its volid */
  place(content: 'iso' | 'vztmpl' | 'import', filename: string): { path: string; volid: string }

  // disks; names are the storage's business: read them back from the volume
  /** `name`: instead of the next free `vm-<vmid>-disk-<n>`, without suffix: `vm-100-cloudinit` */
  createDisk(vmid: number, size: number, format: string | undefined, log: Log, name?: string): Promise<Volume>
  /** an empty volume for a container's root file system: a raw file underneath on every storage, so that it mounts */
  createRoot(vmid: number, size: number, log: Log): Promise<Volume>
  /** overwrites a disk's first bytes with the raw file at `source` (a cloud-init ISO, say); the disk keeps its size */
  fill(volid: string, source: string): Promise<void>
  /** copies (converting as needed) the image file at `source` into a new disk */
  importDisk(
    vmid: number,
    source: string,
    format: string | undefined,
    log: Log,
    signal?: AbortSignal,
  ): Promise<Volume>
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
  /** a full copy of a container's root, of any storage, that stays raw underneath: fullClone is for disks of machines */
  cloneRoot(
    from: { storage: Storage; volid: string; snapshot?: string },
    vmid: number,
    log: Log,
    signal?: AbortSignal,
  ): Promise<Volume>
  /** of a root whose container runs: within Containers.frozen */
  snapshot(volid: string, name: string): Promise<void>
  rollback(volid: string, name: string): Promise<void>
  deleteSnapshot(volid: string, name: string): Promise<void>
  /** names of a disk's snapshots, oldest first */
  snapshots(volid: string): Promise<string[]>
  /** volids of the linked clones of a base volume; always empty on lvmthin, where clones do not need their base */
  clonesOf(baseVolid: string): Promise<string[]>
}

export interface Drive {
  /** scsi0, ide2, virtio0, sata1, efidisk0 */
  slot: string
  media: 'disk' | 'cdrom'
  /** undefined: an empty CD-ROM drive */
  path?: string
  /** what the volume reports; the file's suffix decides how it is opened */
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
  /** grows a disk under a running guest, to `size` bytes */
  resizeDrive(vmid: number, slot: string, size: number): Promise<void>
  /** a snapshot of a disk under a running guest (qcow2 beneath); of a stopped one: Storage.snapshot */
  snapshotDrive(vmid: number, slot: string, name: string): Promise<void>
  deleteDriveSnapshot(vmid: number, slot: string, name: string): Promise<void>
  /** one guest-agent command; rejects with `QEMU guest agent is not running` when it does not answer */
  agent(vmid: number, command: string, args?: Record<string, unknown>): Promise<unknown>
  /** a human monitor command */
  monitor(vmid: number, command: string): Promise<string>
  /** the serial console's output from the start of the last boot, running or not; at most its last `bytes` */
  consoleLog(vmid: number, bytes?: number): Promise<string>
  /** the serial console, live from now on */
  console(vmid: number): Promise<Duplex>
  /** ids of all that run, those started by an earlier daemon on this folder too */
  running(): Promise<number[]>
  stopAll(): Promise<void>
}

export interface ContainerNic {
  /** net0 … */
  slot: string
  /** in the container: eth0 */
  name: string
  mac: string
  bridge: string
  /** `dhcp`, `manual`, or an address with prefix length; missing: not configured */
  ip?: string
  gw?: string
  /** `auto`, `dhcp`, `manual`, or an address with prefix length */
  ip6?: string
  gw6?: string
  /** tag, firewall, mtu, rate, … */
  options: Record<string, string>
}

/** A container: Proxmox's configuration, resolved to paths. */
export interface ContainerSpec {
  vmid: number
  hostname: string
  /** Proxmox's word: debian, ubuntu, … or unmanaged, where nothing inside is touched; missing: to be detected */
  ostype?: string
  arch: string
  /** missing: all of the node's */
  cores?: number
  /** MiB */
  memory: number
  /** MiB */
  swap: number
  unprivileged: boolean
  features: { nesting?: boolean; keyctl?: boolean; fuse?: boolean; mknod?: boolean }
  /** the raw file behind the root volume */
  root: string
  nics: ContainerNic[]
  nameserver?: string
  searchdomain?: string
}

/** What is in a container's root. */
export interface ContainerSystem {
  /** Proxmox's word */
  ostype: string
  /** major version of the systemd that is its init */
  systemd?: number
}

export interface ContainerStatus {
  running: boolean
  /** of its init, seen from the node */
  pid?: number
  /** seconds */
  uptime: number
  /** resident bytes of all its processes */
  mem: number
  /** bytes used in its root file system, while it runs */
  disk: number
  netin: number
  netout: number
}

export interface ContainerInterface {
  name: string
  mac: string
  addresses: { family: 'inet' | 'inet6'; address: string; prefix: number }[]
}

export interface Containers {
  /**
   * Fills an empty root volume: makes the file system, unpacks the archive (not its /dev), then what Proxmox does
   * to a new container: hostname, hosts, DNS, network, root's password and keys, new SSH host keys, whose
   * fingerprints it logs in Proxmox's words.
   */
  create(
    spec: ContainerSpec,
    from: { archive: string; password?: string; sshPublicKeys?: string },
    log: Log,
    signal?: AbortSignal,
  ): Promise<ContainerSystem>
  /** writes hostname, network and DNS as the configuration now has them, then starts it */
  start(spec: ContainerSpec, log: Log): Promise<ContainerSystem>
  stop(vmid: number): Promise<void>
  /** rejects with Proxmox's words when `seconds` are over */
  shutdown(vmid: number, seconds: number): Promise<void>
  status(vmid: number): Promise<ContainerStatus>
  interfaces(vmid: number): Promise<ContainerInterface[]>
  /** what Proxmox does to a clone's files: a new hostname, an emptied machine-id where it had one; no host keys */
  afterClone(spec: ContainerSpec): Promise<ContainerSystem>
  /** its file system stands still, complete on its volume, while `work` copies that; at once where it does not run */
  frozen<T>(vmid: number, work: () => Promise<T>): Promise<T>
  /** grows the file system to its volume's size; of a running container at its next start, where the node may not */
  growRoot(spec: ContainerSpec, log: Log): Promise<void>
  /** the tree of a stopped container as an archive (tar.zst), with the ids that its inside sees */
  dump(spec: ContainerSpec, target: string, log: Log, signal?: AbortSignal): Promise<void>
  /** fills an empty root volume from such an archive, and changes nothing in it */
  restore(spec: ContainerSpec, archive: string, log: Log, signal?: AbortSignal): Promise<void>
  /** what its console printed since its last start; at most its last `bytes` */
  consoleLog(vmid: number, bytes?: number): Promise<string>
  /** the console, live from now on */
  console(vmid: number): Promise<Duplex>
  /** `work` is done whenever a container has ended and counts as stopped; who stops it waits for that too */
  afterEnd(work: (vmid: number) => Promise<void>): void
  /** ids of all that run, those started by an earlier daemon on this folder too */
  running(): Promise<number[]>
  stopAll(): Promise<void>
}
