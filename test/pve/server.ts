import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'

/** A certificate as Proxmox makes them: for a name and an address of its own. */
export interface Identity {
  key: string
  cert: string
  fingerprint: string
}

export async function selfSigned(): Promise<Identity> {
  const dir = await mkdtemp(join(tmpdir(), 'imagebuild-pve-'))
  try {
    const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
    await execa('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=localhost'],
      ...['-addext', 'subjectAltName=DNS:localhost'],
    ])
    const pem = await readFile(cert, 'utf8')
    return {
      key: await readFile(key, 'utf8'),
      cert: pem,
      fingerprint: new X509Certificate(pem).fingerprint256,
    }
  } finally {
    await rm(dir, { recursive: true })
  }
}

/** One request as it arrived, its body read to the end. */
export interface Seen {
  method: string
  path: string
  rawUrl: string
  query: URLSearchParams
  headers: IncomingHttpHeaders
  body: Buffer
  form: URLSearchParams
}

/** What to answer; `undefined` where the route has dealt with the response itself. */
export interface Reply {
  status?: number
  reason?: string
  json?: unknown
}

export type Route = (
  seen: Seen,
  raw: { request: IncomingMessage; response: ServerResponse },
) => Reply | undefined | Promise<Reply | undefined>

export interface Fake extends AsyncDisposable {
  endpoint: string
  fingerprint: string
  server: Server
  seen: Seen[]
  /** `METHOD /path` below /api2/json → what happens; a later one replaces an earlier one */
  on(route: string, handler: Route | Reply): void
  /** all requests of one route */
  of(route: string): Seen[]
}

export const TOKEN = 'builder@pve!t1=5f3b9a52-0000-4000-8000-c0ffee123456'

export const VERSION = { json: { data: { version: '8.4.21', release: '8.4' } } }

/** An HTTPS server on loopback that answers as it is told, framed as Proxmox frames its answers. */
export async function startFake(identity: Identity, port = 0): Promise<Fake> {
  const routes = new Map<string, Route | Reply>([['GET /version', VERSION]])
  const seen: Seen[] = []
  const sockets = new Set<Socket>()
  const server = createServer({ key: identity.key, cert: identity.cert }, async (request, response) => {
    const url = new URL(request.url ?? '', 'https://localhost')
    const path = decodeURIComponent(url.pathname.replace(/^\/api2\/json/, ''))
    const route = routes.get(`${request.method} ${path}`)
    const chunks: Buffer[] = []
    // A route named `… early` acts before the body is read, as Proxmox does with credentials.
    const early = routes.get(`${request.method} ${path} early`)
    if (early instanceof Function) {
      await early(bare(request, url, path), { request, response })
      return
    }
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer)
    } catch {
      return
    }
    const one = { ...bare(request, url, path), body: Buffer.concat(chunks) }
    one.form = new URLSearchParams(one.body.length < 65536 ? one.body.toString() : '')
    seen.push(one)
    const missing = { status: 501, reason: `Method '${request.method} ${path}' not implemented` }
    const reply = route instanceof Function ? await route(one, { request, response }) : (route ?? missing)
    if (reply) send(response, reply)
  })
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return {
    endpoint: `https://localhost:${(server.address() as AddressInfo).port}`,
    fingerprint: identity.fingerprint,
    server,
    seen,
    on: (route, handler) => routes.set(route, handler),
    of: (route) => seen.filter(({ method, path }) => `${method} ${path}` === route),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

export function send(response: ServerResponse, { status = 200, reason = 'OK', json }: Reply): void {
  const body = json === undefined ? '' : JSON.stringify(json)
  response.writeHead(status, reason, {
    'content-length': Buffer.byteLength(body),
    ...(body && { 'content-type': 'application/json;charset=UTF-8' }),
  })
  response.end(body)
}

function bare(request: IncomingMessage, url: URL, path: string): Seen {
  return {
    method: request.method ?? '',
    path,
    rawUrl: request.url ?? '',
    query: url.searchParams,
    headers: request.headers,
    body: Buffer.alloc(0),
    form: new URLSearchParams(),
  }
}

/** What a promise rejects with; fails the test where it does not. */
export async function rejection<T extends Error = Error>(promise: Promise<unknown>): Promise<T> {
  try {
    await promise
  } catch (error) {
    return error as T
  }
  throw new Error('it did not reject')
}
