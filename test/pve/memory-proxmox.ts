import { createHash, randomBytes } from 'node:crypto'
import { orAbort } from '../../src/core/scope.ts'
import { createApi } from '../../src/pve/api.ts'
import type { Pve } from '../../src/pve/client.ts'
import { PveError, PveTaskError } from '../../src/pve/errors.ts'
import type { GuestKind, GuestRef } from '../../src/pve/guest-ref.ts'
import type { Owner } from '../../src/pve/marks.ts'
import type { Place } from '../../src/pve/place.ts'
import { ServerClock } from '../../src/pve/server-clock.ts'
import { VmidReservations } from '../../src/pve/vmids.ts'

/**
 * A Proxmox that lives in memory: guests, tasks, files on a storage, behind the interface of our client. It keeps
 * to what real Proxmox does where our code relies on it: creating a VMID is exclusive in the whole cluster, a
 * guest in the making shows `lock: create` and nothing else, a config's digest is compared and swapped, a guest
 * that runs is not deleted, tags are sorted, failures of work show in the task. Two clones to one VMID are both accepted, and
 * the slower one's task fails. A stopped container's hook writes an old copy of its configuration back before the task ends.
 */

export type Config = Record<string, string | number | boolean>

export interface MemoryGuest {
  kind: GuestKind
  node: string
  config: Config
  status: 'running' | 'stopped'
}

export interface MemoryStorage {
  type: string
  content: string
  active: number
  enabled: number
  /** bytes; missing: it does not say */
  total?: number
  avail?: number
}

interface Task {
  done: Promise<string>
  stop: (exitstatus: string) => void
  /** undefined while it runs */
  ended: string | undefined
  log: string[]
}

/** How the task of a worker ends that was killed: it has said nothing, and undone nothing. */
export const DIED = 'unexpected status'

/** Who the client is. */
const USER = 'builder@pve!t1'

export const PLACE: Place = {
  target: 'home',
  node: 'pve',
  storages: { disks: 'local-lvm', images: 'local', archives: 'local' },
  bridge: 'vmbr0',
  vmids: { templates: { first: 9000, last: 9009 }, claims: { first: 9900, last: 9909 } },
  macPrefix: '02:1b',
  dns: [],
  ssh: { authorities: [] },
}

/** A process on another machine: only its expiry says whether it lives. */
export const SOMEBODY: Owner = { host: 'elsewhere.example', boot: 'b', pid: 1, started: '1' }

export const soon = () => Math.ceil(Date.now() / 1000) + 600
export const past = () => Math.ceil(Date.now() / 1000) - 1

export class MemoryProxmox {
  readonly guests = new Map<number, MemoryGuest>()
  /** without a size: a list does not say it */
  readonly files: { volid: string; size?: number; ctime: number; content: string }[] = []
  readonly storages = new Map<string, MemoryStorage>([
    ['local', { type: 'dir', content: 'iso,import,vztmpl', active: 1, enabled: 1 }],
    ['local-lvm', { type: 'lvmthin', content: 'images,rootdir', active: 1, enabled: 1 }],
  ])
  /** machine types of the nodes' QEMU; undefined: the file with them is missing */
  machines: string[] | undefined = ['pc-q35-9.2', 'pc-i440fx-9.2']
  /** what the storages have of guests; when missing, what the configurations name */
  stored: { volid: string; vmid: number }[] | undefined
  /** what Proxmox tells of one volume */
  readonly volumes = new Map<string, { size: number; used: number; format: string }>()
  /** `METHOD /path` of all calls that change something */
  readonly writes: string[] = []
  /** called before a call is carried out: may throw, or wait, or change the world meanwhile */
  before: (call: string, params: Record<string, unknown>) => void | Promise<void> = () => {}
  /** called after it was carried out, before its answer goes out */
  after: (call: string) => void | Promise<void> = () => {}
  /** what each answer has as its `Date`, in milliseconds since 1970; undefined: it has none */
  now: () => number | undefined = () => Date.now()
  /** what a task waits for before it does its work, and how it ends */
  work: (type: string, vmid: number) => Promise<string | undefined> = async () => undefined
  /** whether a task that fails takes away what it has made */
  undo = true
  /** what a container's post-stop hook waits for before it writes */
  hook: (vmid: number) => Promise<void> = async () => {}
  readonly vmids = new VmidReservations()
  /** nodes whose tasks of others these credentials may see; undefined: all */
  audited: readonly string[] | undefined
  /** VMIDs of which the cluster's list still says what was there before: a template */
  readonly wereTemplates = new Set<number>()
  readonly #tasks = new Map<string, Task>()

  /** A task of whoever it is, that runs for ever or has ended so. */
  addTask(task: {
    type: string
    id: number
    user?: string
    node?: string
    log?: string[]
    status?: string
  }): string {
    const { type, id, user = 'root@pam', node = 'pve', log = [], status } = task
    const upid = this.#upid({ type, id, user, node })
    this.#tasks.set(upid, { done: new Promise(() => {}), stop: () => {}, ended: status, log })
    return upid
  }

  /** It has ended so, and is listed among those that have. */
  endTask(upid: string, status: string): void {
    const task = this.#tasks.get(upid)
    if (task !== undefined) task.ended = status
  }

  /** Puts a guest there, as if it had always been. */
  put(vmid: number, config: Config, rest: Partial<MemoryGuest> = {}): MemoryGuest {
    const guest: MemoryGuest = { kind: 'vm', node: 'pve', status: 'stopped', ...rest, config: { ...config } }
    this.guests.set(vmid, guest)
    return guest
  }

  tagsOf(vmid: number): string[] {
    return String(this.guests.get(vmid)?.config.tags ?? '').split(';')
  }

  isos(): string[] {
    return this.files.filter(({ content }) => content === 'iso').map(({ volid }) => volid)
  }

  addIso(name: string): string {
    const volid = `local:iso/${name}`
    this.files.push({ volid, size: 1, ctime: 0, content: 'iso' })
    return volid
  }

  client(signal: AbortSignal = new AbortController().signal): Pve {
    return this.#view({ signal, clock: new ServerClock(), gate: async () => {} })
  }

  #view(of: { signal: AbortSignal; clock: ServerClock; gate: () => Promise<void> }): Pve {
    const { signal, clock, gate } = of
    const tellTime = () => {
      const now = this.now()
      clock.heard(now === undefined ? undefined : new Date(now).toUTCString())
    }
    // A client has asked who is there before it does anything.
    tellTime()
    const api = createApi(async (method, path, params) => {
      signal.throwIfAborted()
      const call = `${method} ${path}`
      if (method !== 'GET') {
        await orAbort(gate(), signal)
        this.writes.push(call)
      }
      await orAbort(Promise.resolve(this.before(call, params)), signal)
      const answer = this.#answer(method, path, params)
      await this.after(call)
      signal.throwIfAborted()
      tellTime()
      return answer
    })
    return {
      api,
      version: { major: 8, minor: 4, text: '8.4.21' },
      endpoint: 'https://pve.example:8006',
      kind: 'token',
      user: USER,
      writes: this.writes.length,
      vmids: this.vmids,
      clock,
      withSignal: (other) => this.#view({ ...of, signal: other }),
      withGate: (further) =>
        this.#view({
          ...of,
          gate: async () => {
            await gate()
            await further()
          },
        }),
      upload: async (_node, storage, file) => {
        await orAbort(gate(), signal)
        this.writes.push(`upload ${file.filename}`)
        await this.before(`upload ${file.filename}`, {})
        this.files.push({
          volid: `${storage}:${file.content}/${file.filename}`,
          size: 'bytes' in file.source ? file.source.bytes.length : 0,
          ctime: 0,
          content: file.content,
        })
        const upid = this.#task('imgcopy', 0, () => {})
        await this.after(`upload ${file.filename}`)
        return upid
      },
      waitTask: async (upid, options) => {
        const until = options.signal ?? signal
        until.throwIfAborted()
        const aborted = Promise.withResolvers<never>()
        until.addEventListener('abort', () => aborted.reject(until.reason), { once: true })
        const done = this.#tasks.get(upid)?.done ?? Promise.resolve('no such task')
        const exitstatus = await Promise.race([done, aborted.promise])
        options.onLog?.(`TASK ${exitstatus}`)
        const [, node = '', , , , type = '', id = '', user = ''] = upid.split(':')
        if (exitstatus !== 'OK') throw new PveTaskError({ upid, type, id, exitstatus, output: [exitstatus] })
        return { upid, node, type, id, user, exitstatus, warnings: 0 }
      },
      missingPrivileges: async (needs) =>
        needs.flatMap(({ path, privileges, why }) => {
          const node = /^\/nodes\/(.+)$/.exec([path].flat()[0] as string)?.[1]
          if (this.audited === undefined || node === undefined || this.audited.includes(node)) return []
          return privileges.map((privilege) => ({
            path: String(path),
            privilege: String(privilege),
            why,
          }))
        }),
      requirePrivileges: async () => {},
      openConsole: async () => ({ unavailable: 'a token may not' }),
      [Symbol.asyncDispose]: async () => {},
    }
  }

  #answer(method: string, path: string, params: Record<string, unknown>): unknown {
    const route = (pattern: string) =>
      new RegExp(`^${pattern}$`).exec(`${method} ${decodeURIComponent(path)}`)
    let found: RegExpExecArray | null
    if (route('GET /cluster/resources')) {
      return [...this.guests].map(([vmid, guest]) => ({
        ...row(vmid, guest),
        ...(this.wereTemplates.has(vmid) && { template: 1 }),
        node: guest.node,
        type: guest.kind === 'vm' ? 'qemu' : 'lxc',
      }))
    }
    if (route('GET /nodes')) {
      const names = new Set(['pve', ...[...this.guests.values()].map(({ node }) => node)])
      return [...names].map((node) => ({ node, type: 'node', status: 'online' }))
    }
    found = route('GET /nodes/([^/]+)/(qemu|lxc)')
    if (found) {
      const [, node, kind] = found
      return [...this.guests]
        .filter(([, guest]) => guest.node === node && guest.kind === (kind === 'qemu' ? 'vm' : 'lxc'))
        .map(([vmid, guest]) => row(vmid, guest))
    }
    found = route('POST /nodes/([^/]+)/(qemu|lxc)')
    if (found) return this.#create(String(found[1]), found[2] === 'qemu' ? 'vm' : 'lxc', params)
    found = route('POST /nodes/([^/]+)/(?:qemu|lxc)/(\\d+)/clone')
    if (found) return this.#clone(path, Number(found[2]), params)
    if (route('GET /cluster/nextid')) {
      if (!this.guests.has(Number(params.vmid))) return String(params.vmid)
      const fields = { vmid: `VM ${params.vmid} already exists` }
      const message = 'Parameter verification failed.'
      throw new PveError({ method, path, delivery: 'answered', status: 400, message, fields })
    }
    found = route('GET /nodes/([^/]+)/tasks')
    if (found) return this.#taskRows(params, String(found[1]))
    found = route('GET /nodes/[^/]+/tasks/(.+)/status')
    if (found) {
      const ended = this.#tasks.get(String(found[1]))?.ended
      return ended === undefined ? { status: 'running' } : { status: 'stopped', exitstatus: ended }
    }
    found = route('GET /nodes/[^/]+/tasks/(.+)/log')
    if (found) return (this.#tasks.get(String(found[1]))?.log ?? []).map((t, index) => ({ n: index + 1, t }))
    if (route('GET /nodes/[^/]+/capabilities/qemu/machines')) {
      if (this.machines) return this.machines.map((id) => ({ id }))
      throw refused(method, path, 'could not load supported machine versions')
    }
    if (route('GET /nodes/([^/]+)/storage')) {
      const rows = [...this.storages].map(([storage, status]) => ({ storage, shared: 0, ...status }))
      return rows.filter(({ storage }) => params.storage === undefined || params.storage === storage)
    }
    found = route('GET /nodes/([^/]+)/storage/([^/]+)/status')
    if (found) {
      const status = this.storages.get(String(found[2]))
      if (!status) {
        const fields = { storage: 'No such storage.' }
        const message = 'Parameter verification failed.'
        throw new PveError({ method, path, delivery: 'answered', status: 400, message, fields })
      }
      return status
    }
    found = route('GET /nodes/([^/]+)/storage/([^/]+)/content')
    if (found) return this.#content(String(found[2]), params)
    found = route('GET /nodes/([^/]+)/storage/[^/]+/content/(.+)')
    if (found) {
      const info = this.volumes.get(String(found[2]))
      if (info === undefined) throw refused(method, path, `volume '${found[2]}' does not exist`)
      return info
    }
    found = route('DELETE /nodes/[^/]+/storage/local/content/(.+)')
    if (found) {
      const volid = found[1]
      const index = this.files.findIndex((file) => file.volid === volid)
      if (index < 0) throw refused(method, path, `volume '${volid}' does not exist`)
      this.files.splice(index, 1)
      return null
    }
    found = route('DELETE /nodes/[^/]+/tasks/(.+)')
    if (found) {
      this.#tasks.get(String(found[1]))?.stop('received interrupt')
      return null
    }
    found = route('\\w+ /nodes/([^/]+)/(qemu|lxc)/(\\d+)/?(.*)')
    if (found) {
      const kind = found[2] === 'qemu' ? 'vm' : 'lxc'
      return this.#guestCall(
        method,
        path,
        { kind, node: String(found[1]), vmid: Number(found[3]) },
        found[4] ?? '',
        params,
      )
    }
    throw refused(method, path, `Method '${method} ${path}' not implemented`, 501)
  }

  #guestCall(
    method: string,
    path: string,
    { kind, node, vmid }: GuestRef,
    action: string,
    params: Record<string, unknown>,
  ): unknown {
    const guest = this.guests.get(vmid)
    if (guest?.node !== node || guest.kind !== kind) {
      const folder = kind === 'vm' ? 'qemu-server' : 'lxc'
      throw refused(method, path, `Configuration file 'nodes/${node}/${folder}/${vmid}.conf' does not exist`)
    }
    switch (`${method} ${action}`) {
      case 'GET config':
        return { ...guest.config, digest: digest(guest.config) }
      case 'PUT config': {
        const { digest: expected, delete: gone, ...change } = params
        if (expected !== undefined && expected !== digest(guest.config))
          throw refused(method, path, 'checksum mismatch (file change by other user?)')
        if (guest.config.protection && /\b(ide|scsi|sata|virtio)\d/.test(String(gone ?? '')))
          throw refused(method, path, `can't remove drive '${gone}' - protection mode enabled`)
        for (const key of String(gone ?? '').split(',')) delete guest.config[key]
        Object.assign(guest.config, change)
        if (change.tags !== undefined) guest.config.tags = sorted(String(change.tags))
        return null
      }
      case 'GET status/current':
        return { status: guest.status, uptime: 0, netin: 0, netout: 0 }
      case 'POST status/start':
        return this.#task('qmstart', vmid, () => {
          guest.status = 'running'
        })
      case 'POST status/stop':
        if (kind === 'vm')
          return this.#task('qmstop', vmid, () => {
            guest.status = 'stopped'
          })
        if (guest.status === 'stopped') throw refused(method, path, `CT ${vmid} not running`)
        return this.#stopContainer(vmid, guest)
      case 'POST template':
        // Of a container Proxmox answers null and goes on converting.
        if (kind === 'lxc') {
          void this.work('template', vmid).then(() => toBase(guest.config, vmid))
          return null
        }
        return this.#task('qmtemplate', vmid, () => toBase(guest.config, vmid))
      case 'DELETE ':
        if (guest.status === 'running') throw refused(method, path, `VM ${vmid} is running - destroy failed`)
        if (guest.config.protection)
          throw refused(method, path, `can't remove VM ${vmid} - protection mode enabled`)
        if (guest.config.lock !== undefined)
          throw refused(method, path, `VM is locked (${guest.config.lock})`)
        return this.#task('qmdestroy', vmid, () => {
          const base = [...disksOf(guest.config)].find((volid) =>
            [...this.guests.values()].some((one) =>
              disksOf(one.config).some((other) => other.startsWith(`${volid}/`)),
            ),
          )
          if (base !== undefined) return `base volume '${base}' is still in use by linked cloned`
          this.guests.delete(vmid)
        })
      default:
        throw refused(method, path, `Method '${method} ${path}' not implemented`, 501)
    }
  }

  #create(node: string, kind: GuestKind, { vmid: id, ...config }: Record<string, unknown>): string {
    const type = kind === 'vm' ? 'qmcreate' : 'vzcreate'
    return this.#make({ kind, node, vmid: Number(id) }, type, 'create', config as Config)
  }

  #clone(
    path: string,
    from: number,
    { newid, full, storage: _, pool: __, ...change }: Record<string, unknown>,
  ): string {
    const vmid = Number(newid)
    const source = this.guests.get(from)
    if (source === undefined) throw refused('POST', path, `Configuration file '${from}.conf' does not exist`)
    const { kind, node, config } = source
    const { template: _t, ...inherited } = config
    for (const [key, value] of Object.entries(inherited)) {
      if (/^net\d+$/.test(key)) inherited[key] = String(value).replace(MAC, randomMac())
      if (full && /^(scsi|rootfs)\d*$/.test(key))
        inherited[key] = String(value)
          .replaceAll(`base-${from}-`, `vm-${vmid}-`)
          .replace(`:${from}/`, `:${vmid}/`)
    }
    const type = kind === 'vm' ? 'qmclone' : 'vzclone'
    const lock = kind === 'vm' ? 'clone' : 'create'
    const made = { ...inherited, ...(change as Config) }
    if (kind === 'lxc') return this.#make({ kind, node, vmid }, type, lock, made)
    const why = `unable to create VM ${vmid}: config file already exists`
    if (this.guests.has(vmid)) throw refused('POST', path, why)
    // The call looks once; what it then begins looks again, and only then takes the VMID.
    let guest: MemoryGuest | undefined
    return this.#task(
      type,
      from,
      () => {
        if (guest) guest.config = marked(made)
      },
      () => guest && this.guests.delete(vmid),
      async () => {
        await new Promise(setImmediate)
        if (this.guests.has(vmid)) return why
        guest = this.put(vmid, { lock }, { kind, node })
        return await this.work(type, vmid)
      },
    )
  }

  #make({ kind, node, vmid }: GuestRef, type: string, lock: string, config: Config): string {
    const there = this.guests.get(vmid)
    if (there) {
      const why = `unable to create VM ${vmid} - VM ${vmid} already exists on node '${there.node}'`
      throw refused('POST', `/nodes/${node}/qemu`, why)
    }
    const guest = this.put(vmid, { lock }, { kind, node })
    return this.#task(
      type,
      vmid,
      () => {
        guest.config = marked(config)
      },
      () => this.guests.delete(vmid),
    )
  }

  #stopContainer(vmid: number, guest: MemoryGuest): string {
    guest.status = 'stopped'
    const copy = { ...guest.config }
    return this.#task(
      'vzstop',
      vmid,
      () => {},
      () => {},
      async () => {
        await this.hook(vmid)
        guest.config = copy
        return this.work('vzstop', vmid)
      },
    )
  }

  /** Files, and the disks that configurations name. */
  #content(storage: string, { content: wanted, vmid: owner }: Record<string, unknown>): unknown[] {
    const disks = [...this.guests].flatMap(([vmid, { kind, config }]) =>
      disksOf(config)
        .filter((volid) => volid.startsWith(`${storage}:`))
        .map((volid) => {
          const [, base] = /^[^:]+:(\d+\/base-[^/]+)\//.exec(volid) ?? []
          const content = kind === 'vm' ? 'images' : 'rootdir'
          return { volid, vmid, content, size: 1, parent: base === undefined ? null : `../${base}` }
        }),
    )
    const listed = this.stored?.map((volume) => ({ ...volume, content: 'rootdir', size: 1, parent: null }))
    const files = this.files.filter(({ volid }) => volid.startsWith(`${storage}:`))
    return [...files, ...(listed ?? disks)].filter(
      (volume) =>
        (wanted === undefined || volume.content === wanted) &&
        (owner === undefined || ('vmid' in volume && volume.vmid === Number(owner))),
    )
  }

  #task(
    type: string,
    vmid: number,
    // biome-ignore lint/suspicious/noConfusingVoidType: what fails in the task says why, and all others nothing
    work: () => string | void,
    undo: () => void = () => {},
    wait: () => Promise<string | undefined> = () => this.work(type, vmid),
  ): string {
    const upid = this.#upid({ type, id: vmid, user: USER, node: 'pve' })
    const stopped = Promise.withResolvers<string>()
    const done = Promise.race([wait(), stopped.promise]).then((failure) => {
      if (failure === undefined) return work() || 'OK'
      if (this.undo && failure !== DIED) undo()
      return failure
    })
    const task: Task = { done, stop: stopped.resolve, ended: undefined, log: [] }
    this.#tasks.set(upid, task)
    void done.then((status) => {
      task.ended = status
    })
    return upid
  }

  #upid({ type, id, user, node }: { type: string; id: number; user: string; node: string }): string {
    const number = (this.#tasks.size + 1).toString(16).padStart(8, '0').toUpperCase()
    return `UPID:${node}:${number}:00000001:00000001:${type}:${id || ''}:${user}:`
  }

  /** One's own, and those of others where they may be seen. */
  #taskRows(params: Record<string, unknown>, node: string): unknown[] {
    const { source = 'archive', vmid, typefilter, limit } = params
    const newestFirst = [...this.#tasks].reverse()
    const rows = newestFirst.flatMap(([upid, { ended }]) => {
      const [, at = '', , , , type, id, user = ''] = upid.split(':')
      const visible = user === USER || this.audited === undefined || this.audited.includes(at)
      const wanted =
        visible &&
        at === node &&
        (source === 'all' || (source === 'active') === (ended === undefined)) &&
        (vmid === undefined || id === String(vmid)) &&
        (typefilter === undefined || type === typefilter)
      const row = { upid, node: at, type, id, user: user.split('!')[0] }
      return wanted
        ? [{ ...row, status: ended ?? 'RUNNING', ...(ended !== undefined && { endtime: 1 }) }]
        : []
    })
    return rows.slice(0, Number(limit ?? rows.length))
  }
}

const MAC = /([0-9A-F]{2}:){5}[0-9A-F]{2}/

function randomMac(): string {
  return `BC:24:11:${[...randomBytes(3)].map((byte) => byte.toString(16).padStart(2, '0').toUpperCase()).join(':')}`
}

function marked(config: Config): Config {
  return { ...config, ...(config.tags !== undefined && { tags: sorted(String(config.tags)) }) }
}

/** A template, whose disks others may stand on. */
function toBase(config: Config, vmid: number): void {
  for (const [key, value] of Object.entries(config))
    if (/^(scsi|rootfs)\d*$/.test(key)) config[key] = String(value).replace(`vm-${vmid}-`, `base-${vmid}-`)
  config.template = 1
}

/** As Proxmox refuses. */
export function refused(method: string, path: string, message: string, status = 500): PveError {
  return new PveError({ method, path, delivery: 'answered', status, message })
}

function digest(config: Config): string {
  return createHash('sha1').update(JSON.stringify(config)).digest('hex')
}

function sorted(tags: string): string {
  return [...new Set(tags.toLowerCase().split(/[;, ]/))].sort().join(';')
}

/** Volume ids in a configuration. */
function disksOf(config: Config): string[] {
  return Object.entries(config).flatMap(([key, value]) =>
    /^(scsi|rootfs)\d*$/.test(key) ? [String(value).split(',')[0] ?? ''] : [],
  )
}

function row(vmid: number, { config, status }: MemoryGuest): Record<string, unknown> {
  const { name, tags, template, lock } = config
  return {
    vmid,
    status,
    name: name ?? `VM ${vmid}`,
    ...(tags !== undefined && { tags }),
    ...(template !== undefined && { template }),
    ...(lock !== undefined && { lock }),
  }
}
