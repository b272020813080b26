import { X509Certificate } from 'node:crypto'
import { connect, type PeerCertificate, type TLSSocket } from 'node:tls'
import { Agent, fetch } from 'undici'
import { assertOwn } from './bounds.ts'
import { type Own, ownPool } from './own.ts'

/**
 * A client of the Proxmox API that shares no code with ours: the suite must not agree with itself. Where it is
 * told what is the suite's own, it writes to that alone, or throws, and puts each guest into the suite's pool unless a
 * test names another.
 */

export interface Reply {
  status: number
  reason: string
  text: string
  /** seconds until the answer was there */
  seconds: number
  body: { data: never; message?: string; errors?: Record<string, string>; total?: number }
}

export interface Credentials {
  token?: string
  ticket?: string
  csrf?: string
}

export type Fields = Record<string, string | number>

export class Client {
  readonly base: string
  readonly fingerprint: string
  readonly own: Own | undefined
  readonly credentials: Credentials
  readonly #agent: Agent

  constructor(base: string, fingerprint: string, credentials: Credentials = {}, own?: Own) {
    this.base = base.replace(/\/+$/, '')
    this.fingerprint = fingerprint
    this.own = own
    this.credentials = credentials
    // A pinned certificate needs no authority; anything else than exactly this one is refused.
    this.#agent = new Agent({ connect: (options, callback) => void open(options, fingerprint, callback) })
  }

  as(credentials: Credentials): Client {
    return new Client(this.base, this.fingerprint, credentials, this.own)
  }

  headers(): Record<string, string> {
    const { token, ticket, csrf } = this.credentials
    return {
      ...(token !== undefined && { authorization: `PVEAPIToken=${token}` }),
      ...(ticket !== undefined && { cookie: `PVEAuthCookie=${encodeURIComponent(ticket)}` }),
      ...(csrf !== undefined && { csrfpreventiontoken: csrf }),
    }
  }

  async send(
    method: string,
    path: string,
    body?: string | Buffer,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
    if (this.own) assertOwn(this.own, method, path, body)
    const started = performance.now()
    const response = await fetch(`${this.base}/api2/json${path}`, {
      method,
      dispatcher: this.#agent,
      headers: { ...this.headers(), ...headers },
      ...(body !== undefined && { body }),
    })
    const text = await response.text()
    const seconds = (performance.now() - started) / 1000
    const json = response.headers.get('content-type')?.startsWith('application/json')
    return {
      status: response.status,
      reason: response.statusText,
      text,
      seconds,
      body: json ? JSON.parse(text) : { data: null },
    }
  }

  get(path: string, query: Fields = {}): Promise<Reply> {
    return this.send('GET', withQuery(path, query))
  }

  delete(path: string, query: Fields = {}): Promise<Reply> {
    return this.send('DELETE', withQuery(path, query))
  }

  post(path: string, form: Fields = {}): Promise<Reply> {
    return this.send('POST', path, encode(this.#withPool(path, form)), {
      'content-type': 'application/x-www-form-urlencoded',
    })
  }

  #withPool(path: string, form: Fields): Fields {
    const makesGuest = /\/(?:qemu|lxc)(?:\/\d+\/clone)?$/.test(path)
    return this.own && makesGuest ? { pool: ownPool(this.own), ...form } : form
  }

  put(path: string, form: Fields = {}): Promise<Reply> {
    return this.send('PUT', path, encode(form), { 'content-type': 'application/x-www-form-urlencoded' })
  }

  json(method: string, path: string, value: unknown): Promise<Reply> {
    return this.send(method, path, JSON.stringify(value), { 'content-type': 'application/json' })
  }

  /** Parts in the order given; a file is a Buffer with its name. */
  upload(path: string, parts: readonly [string, string | { name: string; data: Buffer }][]): Promise<Reply> {
    const boundary = 'contract-boundary'
    const chunks: Buffer[] = []
    for (const [name, value] of parts) {
      const file = typeof value === 'string' ? '' : `; filename="${value.name}"`
      chunks.push(
        Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"${file}\r\n\r\n`),
      )
      chunks.push(typeof value === 'string' ? Buffer.from(value) : value.data, Buffer.from('\r\n'))
    }
    chunks.push(Buffer.from(`--${boundary}--\r\n`))
    return this.send('POST', path, Buffer.concat(chunks), {
      'content-type': `multipart/form-data; boundary=${boundary}`,
    })
  }

  /** Bytes as they are; gives all that comes back until the server closes. */
  raw(text: string): Promise<string> {
    if (this.own) for (const request of requestsIn(text)) assertOwn(this.own, ...request)
    const { hostname, port } = new URL(this.base)
    return new Promise((resolve, reject) => {
      const socket = connect({ host: hostname, port: Number(port || 443), rejectUnauthorized: false }, () => {
        if (!isPinned(socket, this.fingerprint)) socket.destroy(new Error('another certificate'))
        else socket.write(text)
      })
      let answer = ''
      socket.on('data', (chunk) => {
        answer += chunk
      })
      socket.on('end', () => resolve(answer))
      socket.on('close', () => resolve(answer))
      socket.on('error', (error) =>
        answer === '' && /another/.test(error.message) ? reject(error) : resolve(answer),
      )
    })
  }

  close(): Promise<void> {
    return this.#agent.close()
  }
}

/** What stands in bytes that are sent as they are: one request after the other. */
function* requestsIn(text: string): Generator<[method: string, target: string, body: string]> {
  for (let rest = text; rest !== ''; ) {
    const end = rest.indexOf('\r\n\r\n') + 4
    const head = rest.slice(0, end)
    const length = Number(/^content-length: (\d+)\r$/im.exec(head)?.[1] ?? rest.length)
    const [method = '', target = ''] = head.split(' ', 2)
    yield [method, target.replace(/^\/api2\/\w+/, ''), rest.slice(end, end + length)]
    rest = rest.slice(end + length)
  }
}

function encode(form: Fields): string {
  return Object.entries(form)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join('&')
}

function withQuery(path: string, query: Fields): string {
  const text = encode(query)
  return text === '' ? path : `${path}?${text}`
}

/** PEM of the certificate that a server shows. @throws an Error where it is not the pinned one */
export function certificateOf(base: string, fingerprint: string): Promise<string> {
  const { hostname, port } = new URL(base)
  return new Promise((resolve, reject) => {
    open({ hostname, port }, fingerprint, (error, socket) => {
      if (error) return reject(error)
      const { raw } = socket.getPeerCertificate()
      socket.end()
      resolve(new X509Certificate(raw).toString())
    })
  })
}

function isPinned(socket: TLSSocket, fingerprint: string): boolean {
  return (socket.getPeerCertificate() as PeerCertificate).fingerprint256 === fingerprint
}

type Callback = (...result: [error: null, socket: TLSSocket] | [error: Error, socket: null]) => void

function open(options: { hostname: string; port: string }, fingerprint: string, callback: Callback): void {
  // The check is ours, below: a self-signed certificate has no chain to verify.
  const socket = connect({
    host: options.hostname,
    port: Number(options.port || 443),
    rejectUnauthorized: false,
  })
  socket.once('error', (error) => callback(error, null))
  socket.once('secureConnect', () => {
    if (isPinned(socket, fingerprint)) callback(null, socket)
    else socket.destroy(new Error('the certificate is not the pinned one'))
  })
}
