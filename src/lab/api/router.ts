import type { Release } from '../release.ts'
import type { Containers, Machines, Storage } from '../world.ts'
import { type Access, type Caller, isRootTicket } from './access.ts'
import type { Consoles } from './console.ts'
import type { PostStopHooks } from './containers/post-stop.ts'
import type { Datacenter } from './datacenter.ts'
import { ApiError, failure, parameterError, permissionError } from './errors.ts'
import type { Faults } from './faults.ts'
import type { Guest, GuestStore, GuestType } from './guests/store.ts'
import type { Upload } from './multipart.ts'
import {
  formatted,
  integer,
  type RawValues,
  type Rule,
  type Rules,
  string,
  type Values,
  verifyParameters,
} from './parameters.ts'
import type { TaskContext, Tasks } from './tasks.ts'

/** Everything that a handler may need, as one node of the cluster sees it. */
export interface Lab {
  /** the Proxmox VE that is played */
  pve: Release
  node: string
  /** all nodes by name, this one too; the first is the one that clients talk to */
  nodes: ReadonlyMap<string, Lab>
  storages: ReadonlyMap<string, Storage>
  machines: Machines
  containers: Containers
  bridges: readonly { name: string; address: string; cidr: string }[]
  guests: GuestStore
  tasks: Tasks
  access: Access
  consoles: Consoles
  /** what goes wrong here, as on real servers */
  faults: Faults
  postStop: PostStopHooks
  datacenter: Datacenter
  /** file with the list of appliances, whether it is there or not */
  appliances: string | undefined
  /** SHA-256 fingerprint of the certificate, AA:BB:… */
  fingerprint: string
  /** seconds that `cluster/resources` may lag behind */
  resourceLag: number
}

/** One request: who, with what. */
export class Call {
  readonly lab: Lab
  readonly caller: Caller
  readonly values: Values
  /** which of the two kinds of guests the path speaks of */
  readonly type: GuestType
  readonly upload: Upload | undefined

  constructor(lab: Lab, caller: Caller, values: Values, type: GuestType = 'qemu', upload?: Upload) {
    this.lab = lab
    this.caller = caller
    this.values = values
    this.type = type
    this.upload = upload
  }

  has(name: string): boolean {
    return this.values[name] !== undefined
  }

  text(name: string): string | undefined {
    const value = this.values[name]
    return value === undefined ? undefined : String(value)
  }

  /** a text that the rules say is there */
  need(name: string): string {
    return String(this.values[name])
  }

  number(name: string): number | undefined {
    const value = this.values[name]
    return value === undefined ? undefined : Number(value)
  }

  flag(name: string, whenMissing = false): boolean {
    const value = this.values[name]
    return value === undefined ? whenMissing : Number(value) === 1
  }

  get vmid(): number {
    return Number(this.values.vmid)
  }

  /** @throws ApiError 500, in the words for "No such VM" */
  get guest(): Guest {
    return this.lab.guests.need(this.vmid, this.type)
  }

  get storage(): Storage {
    return findStorage(this.lab, this.need('storage'))
  }

  require(path: string, privileges: readonly string[], any = false): void {
    this.lab.access.require(this.caller, path, privileges, any)
  }

  allowed(path: string, privileges: readonly string[], any = false): boolean {
    return this.lab.access.allowed(this.caller, path, privileges, any)
  }

  /** skiplock and its like: not even a full token of root may. */
  onlyRoot(name: string): boolean {
    if (!this.has(name)) return false
    if (!isRootTicket(this.caller)) throw parameterError({ [name]: 'Only root may use this option.' })
    return this.flag(name)
  }

  /** Starts a task in the caller's name. */
  task(type: string, id: string | number, work: (task: TaskContext) => Promise<void>): string {
    const { node, tasks } = this.lab
    return tasks.start({ node, type, id: String(id), user: this.caller.authid }, work)
  }
}

/** @throws ApiError 500 in Proxmox's words */
export function findStorage(lab: Lab, id: string): Storage {
  const storage = lab.storages.get(id)
  if (!storage) throw failure(`storage '${id}' does not exist`)
  return storage
}

/** Data with attributes beside it, such as `total`. */
export class Answer {
  readonly data: unknown
  readonly attributes: Record<string, unknown>
  constructor(data: unknown, attributes: Record<string, unknown>) {
    this.data = data
    this.attributes = attributes
  }
}

export type Check =
  | { path: string; privileges: readonly string[]; any?: boolean }
  /** all of these; `or`: one of these */
  | { and: readonly Check[] }
  | { or: readonly Check[] }

/** `world`: without login; `all`: whoever is logged in (the handler may ask for more) */
export type Permission = 'world' | 'all' | Check

export const on = (path: string, ...privileges: string[]): Check => ({ path, privileges })
export const onAny = (path: string, ...privileges: string[]): Check => ({ path, privileges, any: true })

export interface Route {
  method: string
  path: string
  permission: Permission
  parameters: Rules
  handle(call: Call): unknown
  /** false: only with a ticket */
  token?: false
  /** of a path with `{node}`: every node answers it itself, also for one that there is not */
  local?: true
}

type Handler = (call: Call) => unknown

function verb(method: string) {
  return (
    path: string,
    permission: Permission,
    parameters: Rules,
    handle: Handler,
    more: Pick<Route, 'token' | 'local'> = {},
  ): Route => ({ method, path, permission, parameters, handle, ...more })
}
export const get = verb('GET')
export const post = verb('POST')
export const put = verb('PUT')
export const del = verb('DELETE')

export const VMID: Rule = integer({ format: 'vmid', minimum: 100, maximum: 999999999 })
export const SNAPSHOT_NAME: Rule = formatted('configid', { maxLength: 40 })

/** What the names in a path may be. */
const PATH_PARAMETERS: Rules = {
  node: formatted('node'),
  vmid: VMID,
  storage: formatted('storage'),
  volume: string(),
  upid: string(),
  snapname: SNAPSHOT_NAME,
  userid: formatted('user', { maxLength: 64 }),
  tokenid: string({ pattern: /^[A-Za-z][A-Za-z0-9.\-_]+$/ }),
  roleid: formatted('role'),
  groupid: formatted('group'),
  poolid: formatted('poolid'),
  iface: string({ minLength: 2, maxLength: 20 }),
}

/** Names in a path, with their rules. */
export function pathParameters(path: string): Rules {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] as string)
  return Object.fromEntries(names.map((name) => [name, PATH_PARAMETERS[name] as Rule]))
}

interface Compiled {
  route: Route
  pattern: RegExp
  rules: Rules
}

export interface Found {
  route: Route
  rules: Rules
  fromPath: Record<string, string>
}

export class Router {
  readonly #routes: Compiled[]

  constructor(routes: readonly Route[]) {
    this.#routes = routes.map((route) => ({
      route,
      // A volume's name may have slashes, escaped or not.
      pattern: new RegExp(
        `^${route.path.replace('{volume}', '(?<volume>.+)').replace(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`,
      ),
      rules: { ...pathParameters(route.path), ...route.parameters },
    }))
  }

  /** @throws ApiError 501, for unknown paths and methods alike */
  find(method: string, path: string): Found {
    for (const { route, pattern, rules } of this.#routes) {
      const match = route.method === method ? pattern.exec(path) : null
      if (match) return { route, rules, fromPath: { ...match.groups } }
    }
    throw new ApiError(501, `Method '${method} ${path}' not implemented`)
  }
}

/** Permission, then parameters, then the work, on the node that the path names: in Proxmox's order. */
export async function dispatch(
  lab: Lab,
  found: Found,
  caller: Caller,
  raw: RawValues,
  path: string,
  upload?: Upload,
): Promise<unknown> {
  const { route, rules, fromPath } = found
  if (route.token === false && caller.token) {
    throw permissionError(`URI '${path}' not available with API token, need proper ticket.\n`)
  }
  for (const name of Object.keys(fromPath)) {
    if (raw[name] !== undefined) {
      throw parameterError({ [name]: 'duplicate parameter (already defined in URI)' })
    }
  }
  checkPermission(lab, caller, route.permission, { ...raw, ...fromPath })
  const here = fromPath.node === undefined || route.local ? lab : lab.nodes.get(fromPath.node)
  if (here === undefined) {
    throw failure(
      `hostname lookup '${fromPath.node}' failed - failed to get address info for: ${fromPath.node}: Name or service not known`,
    )
  }
  const values = verifyParameters(rules, { ...raw, ...fromPath })
  const type = route.path.startsWith('/nodes/{node}/lxc') ? 'lxc' : 'qemu'
  return route.handle(new Call(here, caller, values, type, upload))
}

function checkPermission(lab: Lab, caller: Caller, permission: Permission, values: RawValues): void {
  if (permission === 'world' || permission === 'all') return
  if ('and' in permission) {
    for (const part of permission.and) checkPermission(lab, caller, part, values)
  } else if ('or' in permission) {
    const one = permission.or.some((part) => {
      try {
        checkPermission(lab, caller, part, values)
        return true
      } catch {
        return false
      }
    })
    if (!one) throw permissionError()
  } else {
    let complete = true
    const path = permission.path.replace(/\{(\w+)\}/g, (_, name: string) => {
      if (values[name] === undefined) complete = false
      return String(values[name])
    })
    if (!complete) throw permissionError()
    lab.access.require(caller, path, permission.privileges, permission.any)
  }
}
