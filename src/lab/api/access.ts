import { createHash, createHmac, randomBytes, randomUUID, scrypt, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { permissionError, unauthorized } from './errors.ts'
import { CAPABILITY_AREAS, type Privileges } from './privileges.ts'
import { readState, writeState } from './state-file.ts'

/** Users, tokens, roles, ACLs and pools, and who may do what. */

export interface Token {
  comment?: string
  expire: number
  privsep: 0 | 1
  /** SHA-256 of the secret, which is a random UUID: no slow hash is needed */
  hash: string
}

export interface User {
  enable: 0 | 1
  expire: number
  firstname?: string
  lastname?: string
  email?: string
  comment?: string
  groups: string[]
  password?: { salt: string; hash: string }
  tokens: Record<string, Token>
}

export interface Acl {
  path: string
  type: 'user' | 'group' | 'token'
  ugid: string
  roleid: string
  propagate: 0 | 1
}

export interface Pool {
  comment?: string
  vms: number[]
  storages: string[]
}

interface AccessState {
  users: Record<string, User>
  groups: Record<string, { comment?: string }>
  roles: Record<string, string[]>
  acl: Acl[]
  pools: Record<string, Pool>
  /** signs tickets, base64; a new lab has a new one */
  key: string
}

/** Who calls: `authid` is user@realm, or user@realm!token for a token. */
export interface Caller {
  authid: string
  userid: string
  token: boolean
}

export const ROOT = 'root@pam'
/** seconds that a ticket holds, as Proxmox has it */
const TICKET_SECONDS = 2 * 60 * 60
const derive = promisify(scrypt) as (password: string, salt: string, length: number) => Promise<Buffer>

export function isRootTicket(caller: Caller): boolean {
  return caller.authid === ROOT
}

export class Access {
  readonly #file: string
  readonly privileges: Privileges
  state: AccessState = {
    users: { [ROOT]: { enable: 1, expire: 0, groups: [], tokens: {} } },
    groups: {},
    roles: {},
    acl: [],
    pools: {},
    key: randomBytes(32).toString('base64'),
  }

  constructor(stateDir: string, privileges: Privileges) {
    this.privileges = privileges
    this.#file = join(stateDir, 'access.json')
  }

  async load(): Promise<void> {
    const stored = await readState<AccessState>(this.#file)
    if (stored) this.state = stored
    else await this.save()
  }

  save(): Promise<void> {
    return writeState(this.#file, this.state)
  }

  async setPassword(userid: string, password: string): Promise<void> {
    const user = this.state.users[userid]
    if (!user) throw new Error(`no such user ('${userid}')`)
    const salt = randomBytes(16).toString('base64')
    user.password = { salt, hash: (await derive(password, salt, 32)).toString('base64') }
    await this.save()
  }

  /** A new token's secret: the only time that it is seen. */
  async createToken(userid: string, id: string, facts: Omit<Token, 'hash'>): Promise<string> {
    const user = this.state.users[userid]
    if (!user) throw new Error(`no such user ('${userid}')`)
    const secret = randomUUID()
    user.tokens[id] = { ...facts, hash: sha256(secret) }
    await this.save()
    return secret
  }

  #usable(userid: string): User | undefined {
    const user = this.state.users[userid]
    if (!user?.enable || (user.expire > 0 && user.expire < Date.now() / 1000)) return undefined
    return user
  }

  /** A password, or a ticket that still holds (which renews it). */
  async authenticate(userid: string, password: string): Promise<boolean> {
    const user = this.#usable(userid)
    if (!user) return false
    if (password.startsWith('PVE:')) return this.#ticketUser(password) === userid
    if (!user.password) return false
    const hash = await derive(password, user.password.salt, 32)
    return timingSafeEqual(hash, Buffer.from(user.password.hash, 'base64'))
  }

  #sign(text: string): string {
    return createHmac('sha512', Buffer.from(this.state.key, 'base64')).update(text).digest('base64')
  }

  /** @param prefix PVE for logins, PVEVNC for consoles */
  ticket(prefix: string, userid: string, scope = ''): string {
    const time = Math.floor(Date.now() / 1000)
      .toString(16)
      .toUpperCase()
    const plain = `${prefix}:${userid}:${time}`
    return `${plain}::${this.#sign(`${plain}:${scope}`)}`
  }

  verifyTicket(prefix: string, ticket: string, seconds: number, scope = ''): string | undefined {
    const match = /^((\w+):(.+):([0-9A-F]{8}))::([A-Za-z0-9+/=]+)$/.exec(ticket)
    if (!match || match[2] !== prefix) return undefined
    if (!equal(this.#sign(`${match[1]}:${scope}`), match[5] as string)) return undefined
    const age = Date.now() / 1000 - Number.parseInt(match[4] as string, 16)
    return age > -300 && age < seconds ? match[3] : undefined
  }

  #ticketUser(ticket: string): string | undefined {
    return this.verifyTicket('PVE', ticket, TICKET_SECONDS)
  }

  csrfToken(userid: string): string {
    const time = Math.floor(Date.now() / 1000)
      .toString(16)
      .toUpperCase()
    return `${time}:${this.#sign(`csrf:${time}:${userid}`).slice(0, 43)}`
  }

  #csrfValid(userid: string, token: string | undefined): boolean {
    const [time = '', signature = ''] = token?.split(':') ?? []
    const age = Date.now() / 1000 - Number.parseInt(time, 16)
    return (
      age > -300 &&
      age < TICKET_SECONDS &&
      equal(this.#sign(`csrf:${time}:${userid}`).slice(0, 43), signature)
    )
  }

  /** Who sent this request. @throws ApiError 401, whose text is the reason phrase */
  identify(request: { method: string; authorization?: string; cookie?: string; csrf?: string }): Caller {
    const api = /^PVEAPIToken[= ](.+)$/.exec(request.authorization ?? '')?.[1]
    if (api !== undefined) return this.#identifyToken(api)
    const cookie = /(?:^|;\s*)PVEAuthCookie=([^;]*)/.exec(request.cookie ?? '')?.[1]
    if (!cookie) throw unauthorized('No ticket')
    const userid = this.#ticketUser(cookie.includes('%') ? decodeURIComponent(cookie) : cookie)
    if (userid === undefined || !this.#usable(userid)) throw unauthorized('Authentication failed!')
    if (request.method !== 'GET' && !this.#csrfValid(userid, request.csrf)) {
      throw unauthorized('Permission denied - invalid csrf token')
    }
    return { authid: userid, userid, token: false }
  }

  #identifyToken(text: string): Caller {
    const match = /^((.+@[^!]+)!([^=]+))=(.+)$/.exec(text)
    const token = match && this.#usable(match[2] as string)?.tokens[match[3] as string]
    if (!token || (token.expire > 0 && token.expire < Date.now() / 1000))
      throw unauthorized('Authentication failed!')
    if (!equal(token.hash, sha256(match[4] as string))) throw unauthorized('Authentication failed!')
    return { authid: match[1] as string, userid: match[2] as string, token: true }
  }

  roles(): Record<string, readonly string[]> {
    return { ...this.privileges.builtInRoles, ...this.state.roles }
  }

  /** Privileges of a user or token on a path; the value says whether they hold below it too. */
  permissions(authid: string, path: string): Record<string, 0 | 1> {
    const own = this.#permissionsAt(authid, path)
    const pool = this.#poolOf(path)
    return pool === undefined ? own : { ...this.#permissionsAt(authid, `/pool/${pool}`), ...own }
  }

  #permissionsAt(authid: string, path: string): Record<string, 0 | 1> {
    if (authid === ROOT) return Object.fromEntries(this.privileges.all.map((name) => [name, 1]))
    const [userid = '', tokenid] = authid.split('!', 2)
    const ofUser = userid === ROOT ? this.#permissionsAt(ROOT, path) : this.#fromAcl('user', userid, path)
    if (tokenid === undefined) return ofUser
    if (!this.state.users[userid]?.tokens[tokenid]?.privsep) return ofUser
    const ofToken = this.#fromAcl('token', authid, path)
    return Object.fromEntries(Object.entries(ofToken).filter(([name]) => name in ofUser))
  }

  #fromAcl(type: 'user' | 'token', ugid: string, path: string): Record<string, 0 | 1> {
    const groups = type === 'user' ? (this.state.users[ugid]?.groups ?? []) : []
    const parts = path.split('/').filter((part) => part !== '')
    let roles: Record<string, 0 | 1> = {}
    // From the root down: an entry nearer to the path replaces what came from above.
    for (let depth = 0; depth <= parts.length; depth++) {
      const at = `/${parts.slice(0, depth).join('/')}`
      const here = this.state.acl.filter(
        (entry) => entry.path === at && (depth === parts.length || entry.propagate),
      )
      const direct = here.filter((entry) => entry.type === type && entry.ugid === ugid)
      const found =
        direct.length > 0 ? direct : here.filter((e) => e.type === 'group' && groups.includes(e.ugid))
      if (found.length > 0) roles = Object.fromEntries(found.map((entry) => [entry.roleid, entry.propagate]))
    }
    if ('NoAccess' in roles) return {}
    const all = this.roles()
    const privileges: Record<string, 0 | 1> = {}
    for (const [role, propagate] of Object.entries(roles)) {
      for (const name of all[role] ?? []) {
        // A role of another release may have what there is not here.
        if (this.privileges.all.includes(name)) privileges[name] = privileges[name] || propagate
      }
    }
    return privileges
  }

  #poolOf(path: string): string | undefined {
    const [, area, id] = path.split('/')
    if (area !== 'vms' && area !== 'storage') return undefined
    return Object.entries(this.state.pools).find(([, pool]) =>
      area === 'vms' ? pool.vms.includes(Number(id)) : pool.storages.includes(id as string),
    )?.[0]
  }

  allowed(caller: Caller, path: string, privileges: readonly string[], any = false): boolean {
    const has = this.permissions(caller.authid, path)
    return any ? privileges.some((name) => name in has) : privileges.every((name) => name in has)
  }

  /** The same for many guests: those without an entry of their own and without a pool are decided once. */
  allowedGuests(caller: Caller, privileges: readonly string[]): (vmid: number) => boolean {
    const special = new Set([
      ...this.state.acl.map(({ path }) => path),
      ...Object.values(this.state.pools).flatMap(({ vms }) => vms.map((vmid) => `/vms/${vmid}`)),
    ])
    const others = this.allowed(caller, '/vms/0', privileges)
    return (vmid) => {
      const path = `/vms/${vmid}`
      return special.has(path) ? this.allowed(caller, path, privileges) : others
    }
  }

  /** @throws ApiError 403 with Proxmox's text */
  require(caller: Caller, path: string, privileges: readonly string[], any = false): void {
    if (this.allowed(caller, path, privileges, any)) return
    throw permissionError(`${path}, ${privileges.join(any ? '|' : ', ')}`)
  }

  /** What GET /access/permissions shows: paths with anything on them. */
  effective(authid: string, only?: string): Record<string, Record<string, 0 | 1>> {
    const top = ['/', '/access', '/access/groups', '/nodes', '/pool', '/sdn', '/storage', '/vms']
    const paths = only === undefined ? [...top, ...this.state.acl.map((entry) => entry.path)] : [only]
    const found = paths.map((path) => [path, this.permissions(authid, path)] as const)
    return Object.fromEntries(
      found.filter(([, privileges]) => only !== undefined || Object.keys(privileges).length > 0),
    )
  }

  capabilities(userid: string): Record<string, Record<string, 1>> {
    const cap: Record<string, Record<string, 1>> = Object.fromEntries(
      Object.keys(CAPABILITY_AREAS).map((area) => [area, {}]),
    )
    for (const [path, privileges] of Object.entries(this.effective(userid))) {
      const area = path === '/' ? 'dc' : (path.split('/')[1] as string)
      for (const [name, pattern] of Object.entries(CAPABILITY_AREAS)) {
        if (name !== area && path !== '/') continue
        for (const privilege of Object.keys(privileges)) {
          if (pattern.test(privilege)) (cap[name] as Record<string, 1>)[privilege] = 1
        }
      }
    }
    return cap
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function equal(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))
}
