import { connect, type PeerCertificate, type TLSSocket } from 'node:tls'
import { Agent, type FormData, fetch } from 'undici'

/** A client of the Proxmox API that shares no code with ours: the suite must not agree with itself. */

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
  readonly credentials: Credentials
  readonly #agent: Agent

  constructor(base: string, fingerprint: string, credentials: Credentials = {}) {
    this.base = base.replace(/\/+$/, '')
    this.fingerprint = fingerprint
    this.credentials = credentials
    // A pinned certificate needs no authority; anything else than exactly this one is refused.
    this.#agent = new Agent({ connect: (options, callback) => void open(options, fingerprint, callback) })
  }

  as(credentials: Credentials): Client {
    return new Client(this.base, this.fingerprint, credentials)
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
    body?: string | Buffer | FormData,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
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
    return this.send('POST', path, encode(form), { 'content-type': 'application/x-www-form-urlencoded' })
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

function encode(form: Fields): string {
  return Object.entries(form)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join('&')
}

function withQuery(path: string, query: Fields): string {
  const text = encode(query)
  return text === '' ? path : `${path}?${text}`
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
