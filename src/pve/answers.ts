/**
 * What Proxmox answers, as far as it is read here: the typed paths (api.ts) give these. proxmox-api's own types stem from
 * Proxmox's schema, which says of some answers nothing or something else than what comes, and they let any misspelt field
 * pass. Checked against the schemas and the code of Proxmox VE 8.4 and 9.2; where nothing is said, both are alike.
 */

/** What the schema calls a boolean: 0 or 1 as a rule, true or false where another program's JSON is passed on. Compare by truth. */
export type Flag = 0 | 1 | boolean

/** `GET …/qemu/{vmid}/config`, `…/lxc/{vmid}/config`. The keys that are not named here belong to one kind of guest. */
export interface GuestConfig {
  digest: string
  tags?: string
  description?: string
  name?: string
  template?: Flag
  lock?: string
  [key: string]: unknown
}

/** `GET …/status/current`. The schema has the numbers as optional; both kinds always have them, 0 where the guest is stopped. */
export interface GuestStatus {
  status: 'running' | 'stopped'
  /** of virtual machines alone */
  qmpstatus?: string
  /** seconds */
  uptime: number
  /** bytes */
  netin: number
  /** bytes */
  netout: number
  lock?: string
}

/** A row of `GET /nodes/{node}/qemu`, `…/lxc`. */
export interface ListedGuest {
  vmid: number
  name?: string
  tags?: string
  template?: Flag
  lock?: string
  /** `running`, `stopped`; in the list of the cluster also `unknown` */
  status?: string
}

/** A row of `GET /cluster/resources` with `type=vm`. The schema has the fields that only other types lack as optional. */
export interface ClusterGuest extends ListedGuest {
  type: 'qemu' | 'lxc'
  node: string
}

/** A row of `GET /nodes`. */
export interface NodeRow {
  node: string
  status: 'online' | 'offline' | 'unknown'
}

/** Of `GET /nodes/{node}/status`, for whoever has `Sys.Audit` on the node. */
export interface NodeStatus {
  cpuinfo: {
    /** empty where the processor does not run virtual machines by itself, so that they are emulated */
    hvm: '' | '1' | 1
  }
}

/** A row of `GET /nodes/{node}/capabilities/qemu/machines`. */
export interface MachineType {
  /** `pc-i440fx-9.2`, `virt-9.2` */
  id: string
}

/** A row of `GET /nodes/{node}/storage`. */
export interface StorageRow {
  storage: string
  shared?: Flag
}

/** `GET …/storage/{storage}/status`. The schema of 8.4 says nothing of it; both answer the same. */
export interface StorageStatus {
  type: string
  content: string
  active: Flag
  enabled: Flag
  /** bytes; 0 where the plugin cannot tell */
  total?: number
  /** bytes */
  avail?: number
}

/** A row of `GET …/storage/{storage}/content` for a content type that lies in a folder, where each file has a `ctime`. */
export interface StoredFile {
  volid: string
  /** bytes; 9.2 leaves it out of a list where a storage would have to work for it, and gives `approximate-size` */
  size?: number
  /** seconds since 1970 */
  ctime: number
}

/** A row of the same list for all content types: guests' volumes, and files among them, which have no VMID. */
export interface StoredDisk {
  volid: string
  vmid?: number
  /** of a layer; storages without layers leave it out, or answer null where the schema has text */
  parent?: string | null
}

/** `GET …/storage/{storage}/content/{volume}`. */
export interface VolumeInfo {
  path: string
  /** `qcow2`, `raw`, `subvol`, `iso`, … */
  format: string
  /** bytes, as a guest sees them */
  size: number
  /** bytes that have been written, as far as the storage knows */
  used: number
}

/** `GET …/agent/file-read`. */
export interface FileRead {
  content: string
  /** the schema does not have it */
  'bytes-read': number
  /** where the file has more than the answer: 16 MiB, or what was asked for */
  truncated?: Flag
}

/** A network card as the guest agent and the node tell it. */
export interface NetworkCard {
  name: string
  'hardware-address'?: string
  'ip-addresses'?: {
    'ip-address': string
    /** `ipv4` and `ipv6` of the agent, `inet` and `inet6` of a container's node */
    'ip-address-type': string
  }[]
}

/** `GET …/agent/network-get-interfaces`: the agent's own answer, of which the schema says nothing. */
export interface AgentCards {
  result: NetworkCard[]
}

/** `GET …/lxc/{vmid}/interfaces`: null of a container that does not run, where the schema has a list. */
export type ContainerCards = NetworkCard[] | null

/** A row of `GET /nodes/{node}/tasks`. A user without `Sys.Audit` on the node sees only their own tasks. */
export interface TaskRow {
  upid: string
  type: string
  /** the guest's number, a volume, or empty */
  id: string
  /** `user@realm`, or `user@realm!tokenid` */
  user: string
  /** how it ended; while it runs, Proxmox writes `RUNNING` here (sources `active` and `all`) */
  status?: string
}

/** `GET …/tasks/{upid}/status`. */
export interface TaskStatus {
  status: 'running' | 'stopped'
  /** once it has stopped: `OK`, `WARNINGS: n`, or why it failed */
  exitstatus?: string
}

/** A line of `GET …/tasks/{upid}/log`. */
export interface TaskLine {
  /** counted from 1 */
  n: number
  t: string
}

/**
 * A row of `GET /nodes/{node}/aplinfo`, of which the schema says nothing: a stanza of the signed lists, its keys in lower
 * case. Proxmox leaves out any that lacks a version or a package, and adds the name of the file.
 */
export interface ApplianceStanza {
  template: string
  package: string
  version: string
  [key: string]: string
}
