import { X509Certificate } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type FaultsInput, readFaults } from '../faults.ts'
import { DEFAULT_MAJOR, type Major, RELEASES } from '../release.ts'
import type { Containers, Machines, Storage } from '../world.ts'
import { Access, type Caller } from './access.ts'
import { fromSearch, readBody } from './body.ts'
import { Consoles } from './console.ts'
import { PostStopHooks } from './containers/post-stop.ts'
import { Datacenter } from './datacenter.ts'
import { ApiError, failure, messageOf } from './errors.ts'
import { Faults, type Pause } from './faults.ts'
import { GuestStore } from './guests/store.ts'
import { clearLeftovers, uploadFolder } from './leftovers.ts'
import { discard, receiveUpload, TransportError } from './multipart.ts'
import { privilegesOf } from './privileges.ts'
import { type Provision, type Provisioned, provisionAccess } from './provision.ts'
import { Answer, dispatch, type Lab, Router } from './router.ts'
import { routes } from './routes.ts'
import { Tasks } from './tasks.ts'

/** One node of the cluster. Storages that are shared are the same ones on all nodes. */
export interface NodeOptions {
  name: string
  storages: readonly Storage[]
}

/** The lab's HTTPS server: Proxmox's framing, and nothing of what the calls mean. */
export interface ApiOptions {
  host: string
  /** 0: any free one */
  port: number
  tls: { key: string; cert: string }
  /** the major version of the Proxmox VE that is played; default: the current one */
  pve?: Major
  /** guests, users, tasks and logs; survives a restart */
  stateDir: string
  /** at least one; the first is the one that answers */
  nodes: readonly NodeOptions[]
  machines: Machines
  containers: Containers
  bridges: readonly { name: string; address: string; cidr: string }[]
  /** file with the list of appliances; without one, or without the file, there are none */
  appliances?: string
  /** the cluster's options, in the form of Proxmox's datacenter.cfg; default: in `stateDir` */
  datacenter?: string
  /** called at each request */
  onActivity(): void
  /** seconds that a refused login or ticket is kept waiting; Proxmox: 3 */
  unauthorizedDelay?: number
  /** seconds that `cluster/resources` may lag behind; Proxmox: up to 10 */
  resourceLag?: number
  /** what goes wrong, as on real servers */
  faults?: FaultsInput
  /** how the faults let time pass; tests have no time to lose */
  pause?: Pause
}

export interface ApiServer {
  readonly port: number
  activeTasks(): number
  /** requests that are not answered yet: an upload is one for as long as it takes */
  openRequests(): number
  /** a further node; one of this name is there already: nothing changes */
  addNode(node: NodeOptions): void
  /** stops all tasks and connections; running guests go on */
  close(): Promise<void>
  /** users, roles, ACLs and tokens made without HTTP; repeating it changes nothing but makes a new secret */
  provisionAccess(wanted: Provision): Promise<Provisioned>
}

/** bytes of an upload that Proxmox holds while it keeps a refusal back; more breaks the connection */
const REFUSED_BUFFER = 64 * 1024
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE']
const WITHOUT_LOGIN = /^(?:GET \/access\/(?:domains|ticket)|POST \/access\/(?:vnc)?ticket)$/
const UPLOAD_PATH = /^\/nodes\/([^/]+)\/storage\/([^/]+)\/upload$/

export async function startApi(options: ApiOptions): Promise<ApiServer> {
  const nodes = new Map<string, Lab>()
  const lab = await openLab(options, nodes)
  const router = new Router(routes(lab.pve))
  const sockets = new Set<Socket>()
  let openRequests = 0
  const server = createServer({ ...options.tls, keepAlive: true }, (request, response) => {
    options.onActivity()
    openRequests++
    response.once('close', () => openRequests--)
    void answer(lab, router, options, request, response)
  })
  // Proxmox never answers 100-continue; a client that waits for it must go on by itself.
  server.on('checkContinue', (request, response) => server.emit('request', request, response))
  server.requestTimeout = 0
  server.on('secureConnection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
  })
  server.on('upgrade', (request, socket, head) => {
    options.onActivity()
    lab.consoles.upgrade(lab, request, socket, head)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    activeTasks: () => lab.tasks.active,
    openRequests: () => openRequests,
    addNode: (node) => addNode(lab, nodes, node),
    provisionAccess: (wanted) => provisionAccess(lab.access, wanted),
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      lab.faults.close()
      await lab.tasks.stopAll()
      await lab.postStop.allSettled()
      lab.consoles.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

async function openLab(options: ApiOptions, nodes: Map<string, Lab>): Promise<Lab> {
  const [first, ...others] = options.nodes
  if (first === undefined) throw new TypeError('a lab has at least one node')
  const pve = RELEASES[options.pve ?? DEFAULT_MAJOR]
  const access = new Access(options.stateDir, privilegesOf(pve))
  const tasks = new Tasks(join(options.stateDir, 'tasks'))
  const guests = new GuestStore(join(options.stateDir, 'guests'), first.name)
  await Promise.all([access.load(), tasks.load(), guests.load()])
  const faults = new Faults(readFaults(options.faults), options.pause)
  const postStop = new PostStopHooks(guests, faults)
  options.containers.afterEnd((vmid) => postStop.run(vmid))
  const lab: Lab = {
    pve,
    node: first.name,
    nodes,
    storages: byId(first.storages),
    machines: options.machines,
    containers: options.containers,
    bridges: options.bridges,
    appliances: options.appliances,
    datacenter: new Datacenter(options.datacenter ?? join(options.stateDir, 'datacenter.cfg')),
    guests,
    tasks,
    access,
    consoles: new Consoles(),
    faults,
    postStop,
    fingerprint: new X509Certificate(options.tls.cert).fingerprint256,
    resourceLag: options.resourceLag ?? 3,
  }
  nodes.set(lab.node, lab)
  for (const node of others) addNode(lab, nodes, node)
  for (const node of nodes.values()) await clearLeftovers(node)
  return lab
}

function addNode(lab: Lab, nodes: Map<string, Lab>, { name, storages }: NodeOptions): void {
  if (nodes.has(name)) return
  nodes.set(name, { ...lab, node: name, storages: byId(storages), guests: lab.guests.at(name) })
}

function byId(storages: readonly Storage[]): Lab['storages'] {
  return new Map(storages.map((storage) => [storage.id, storage]))
}

async function answer(
  lab: Lab,
  router: Router,
  options: ApiOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let format: 'json' | 'extjs' = 'json'
  // Proxmox's workers end after some requests, and take connections with them.
  const cut = lab.faults.cutsOff()
  if (cut === 'before') return request.socket.destroySoon()
  try {
    const method = request.method ?? 'GET'
    if (!METHODS.includes(method)) throw new TransportError(501, `method '${method}' not available`, true)
    if (request.headers['transfer-encoding'] !== undefined) {
      throw new TransportError(501, 'chunked transfer encoding not supported')
    }
    const url = new URL(request.url ?? '/', 'https://lab')
    const [, given, rest = ''] = /^\/api2(?:\/(json|extjs))?(?=\/|$)(.*)$/.exec(url.pathname) ?? []
    if (!url.pathname.startsWith('/api2')) throw new TransportError(404, 'Not Found')
    if (given === undefined) {
      throw new TransportError(501, `no formatter for uri /, ${url.pathname.replace(/^\/api2\/?/, '')}`)
    }
    format = given as 'json' | 'extjs'
    const path = decodeURIComponent(rest).replace(/\/+$/, '') || '/'
    const data = await serve(lab, router, request, method, path, url)
    if (cut === 'after') return request.socket.destroySoon()
    const body =
      data instanceof Answer ? { data: data.data ?? null, ...data.attributes } : { data: data ?? null }
    send(response, 200, 'OK', format === 'extjs' ? { ...body, success: 1 } : body)
  } catch (error) {
    if (cut === 'after') return request.socket.destroySoon()
    await refuse(response, request, error, format, options.unauthorizedDelay ?? 3)
  }
}

async function serve(
  lab: Lab,
  router: Router,
  request: IncomingMessage,
  method: string,
  path: string,
  url: URL,
): Promise<unknown> {
  const { authorization, cookie } = request.headers
  const csrf = request.headers.csrfpreventiontoken as string | undefined
  const caller: Caller = WITHOUT_LOGIN.test(`${method} ${path}`)
    ? { authid: '', userid: '', token: false }
    : lab.access.identify({
        method,
        ...(authorization !== undefined && { authorization }),
        ...(cookie !== undefined && { cookie }),
        ...(csrf !== undefined && { csrf }),
      })
  const [, node, storage] = (method === 'POST' && UPLOAD_PATH.exec(path)) || []
  if (node !== undefined && storage !== undefined)
    return serveUpload(lab, router, request, caller, path, { node, storage })
  const raw = { ...fromSearch(url.searchParams), ...(await readBody(request, method)) }
  return dispatch(lab, router.find(method, path), caller, raw, path)
}

/** A refusal at the door of an upload: held back, and lost when more than the buffer's worth arrives meanwhile. */
class UploadRefused extends Error {
  readonly refusal: ApiError
  constructor(refusal: ApiError) {
    super(refusal.message)
    this.refusal = refusal
  }
}

async function serveUpload(
  lab: Lab,
  router: Router,
  request: IncomingMessage,
  caller: Caller,
  path: string,
  to: { node: string; storage: string },
): Promise<unknown> {
  try {
    lab.access.require(caller, `/storage/${to.storage}`, ['Datastore.AllocateTemplate'])
  } catch (error) {
    throw new UploadRefused(error as ApiError)
  }
  if (!/^multipart\/form-data;\s*boundary=/i.test(request.headers['content-type'] ?? '')) {
    // Proxmox's worker dies on this: the client sees the connection close, and nothing else.
    request.socket.destroy()
    throw new TransportError(0, 'closed')
  }
  const storage = lab.nodes.get(to.node)?.storages.get(to.storage)
  const folder = storage && uploadFolder(storage)
  const room = storage ? (await storage.status()).avail : 0
  const upload = await receiveUpload(request, folder, room)
  try {
    return await dispatch(lab, router.find('POST', path), caller, upload.fields, path, upload)
  } catch (error) {
    await discard(upload)
    throw error
  }
}

async function refuse(
  response: ServerResponse,
  request: IncomingMessage,
  error: unknown,
  format: 'json' | 'extjs',
  seconds: number,
): Promise<void> {
  // The request itself counts as destroyed once its body was read.
  if (!response.socket || response.socket.destroyed) return
  if (error instanceof TransportError) {
    response.shouldKeepAlive = false
    send(response, error.status, error.message, error.empty ? '' : error.message)
    request.resume()
    return
  }
  if (error instanceof UploadRefused) {
    let held = 0
    request.on('data', (chunk: Buffer) => {
      held += chunk.length
      if (held > REFUSED_BUFFER) request.socket.destroy()
    })
    await delay(seconds * 1000)
    response.shouldKeepAlive = false
    if (!response.socket?.destroyed) send(response, 403, error.refusal.reason, '')
    return
  }
  const known = error instanceof ApiError ? error : failure(messageOf(error))
  if (known.status === 401) {
    // A wrong password is answered by its handler, with a body; a wrong ticket or token is not.
    const body = known.message === 'authentication failure' ? { data: null, message: known.body } : ''
    await delay(seconds * 1000)
    response.shouldKeepAlive = false
    send(response, 401, known.reason, body)
    return
  }
  const body = { data: null, message: known.body, ...(known.errors && { errors: known.errors }) }
  if (format === 'extjs') send(response, 200, 'OK', { ...body, status: known.status, success: 0 })
  else send(response, known.status, known.reason, body)
}

/** @param body an object goes out as JSON, a string as it is and without a content type */
function send(response: ServerResponse, status: number, reason: string, body: object | string): void {
  if (response.headersSent || response.destroyed) return
  const bytes = Buffer.from(typeof body === 'string' ? body : JSON.stringify(body))
  // A reason phrase is bytes on the wire: UTF-8 goes out as such.
  const phrase = Buffer.from(reason.replace(/[\r\n\0]/g, ' '), 'utf8').toString('latin1')
  const date = new Date().toUTCString()
  response.writeHead(status, phrase, {
    'Cache-Control': 'max-age=0',
    Pragma: 'no-cache',
    Server: 'pve-api-daemon/3.0',
    Date: date,
    Expires: date,
    ...(typeof body !== 'string' && { 'Content-Type': 'application/json;charset=UTF-8' }),
    'Content-Length': bytes.length,
  })
  response.end(bytes)
}
