import { mkdtemp, rm } from 'node:fs/promises'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { Agent, createServer, type RequestOptions, request } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { connect } from 'node:tls'
import { certificate } from '../../src/lab/certificate.ts'

/**
 * A Proxmox that fails when it is told to: an HTTPS server in front of a real one (the lab), which decides for each
 * call whether it is passed on, answered otherwise, or lost. Bodies are streamed, so that images go through. It knows
 * no time: what is to be held is held by a promise.
 */
export interface Proxy extends AsyncDisposable {
  endpoint: string
  /** SHA-256 of its certificate, as a target's `fingerprint` wants it */
  fingerprint: string
  /** all calls so far, in the order in which they came */
  readonly calls: readonly Call[]
}

export interface Call {
  /** 1 for the first call of all */
  n: number
  method: string
  /** below /api2/json, decoded: `/nodes/lab/lxc` */
  path: string
  query: URLSearchParams
  /** of a POST or PUT; missing for an upload, which is not kept */
  body?: URLSearchParams
  /** of the server's answer; missing where it never saw the call, or has not answered yet */
  status?: number
}

/** `body` is put into JSON, unless it is a string. */
export interface Answer {
  status: number
  reason: string
  body?: unknown
}

export type Decision =
  | 'pass'
  /** the connection ends; the server never sees the call */
  | 'reset-before'
  /** the server does what it is asked for; its answer is lost with the connection */
  | 'reset-after'
  /** instead of asking the server */
  | Answer

export interface ProxyOptions {
  upstream: { endpoint: string; fingerprint: string }
  /** A promise holds the call until it settles. */
  decide?: (call: Call) => Decision | Promise<Decision>
  /** The server has answered, and the client does not know yet; what this gives is what it gets instead. */
  answered?: (
    call: Call,
    answer: Answer,
  ) => Answer | 'reset' | undefined | Promise<Answer | 'reset' | undefined>
}

/** Headers that belong to one connection, not to what is passed on. */
const HOP = ['connection', 'keep-alive', 'proxy-authenticate', 'te', 'trailer', 'upgrade', 'host']

export async function startProxy({ upstream, decide, answered }: ProxyOptions): Promise<Proxy> {
  const dir = await mkdtemp(join(tmpdir(), 'imagebuild-proxy-'))
  const own = await certificate(dir, '127.0.0.1').finally(() => rm(dir, { recursive: true, force: true }))
  const { hostname, port } = new URL(upstream.endpoint)
  const trust = { ca: await shownCertificate(upstream), checkServerIdentity: () => undefined }
  // Never kept alive: a connection that the server has just closed would look like a fault.
  const agent = new Agent({ keepAlive: false })
  const calls: Call[] = []

  const serve = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const url = new URL(incoming.url ?? '/', upstream.endpoint)
    const form = await formOf(incoming)
    const call: Call = {
      n: calls.length + 1,
      method: incoming.method ?? 'GET',
      path: decodeURIComponent(url.pathname.replace(/^\/api2\/json/, '')),
      query: url.searchParams,
      ...(form && { body: new URLSearchParams(form.toString()) }),
    }
    calls.push(call)
    const decision = (await decide?.(call)) ?? 'pass'
    if (decision === 'reset-before') return reset(incoming)
    if (decision !== 'pass' && decision !== 'reset-after') return say(incoming, outgoing, decision)
    const { method, url: path = '/' } = incoming
    const options = { hostname, port, path, headers: passed(incoming.headers), agent, ...trust }
    const answer = await forward({ ...options, ...(method && { method }) }, form ?? incoming, outgoing)
    call.status = answer.statusCode ?? 0
    // Uploads alone are large, and their answers are as short as all others.
    const bytes = await bytesOf(answer)
    if (decision === 'reset-after') return reset(incoming)
    const reason = answer.statusMessage ?? ''
    const other = await answered?.(call, { status: call.status, reason, body: parsed(bytes) })
    if (other === 'reset') return reset(incoming)
    if (other !== undefined) return say(incoming, outgoing, other)
    if (outgoing.destroyed) return
    outgoing.writeHead(call.status, reason, { ...passed(answer.headers), 'content-length': bytes.length })
    outgoing.end(bytes)
  }

  const server = createServer({ key: own.key, cert: own.cert }, (incoming, outgoing) => {
    // Whoever is cut off on either side is cut off on the other.
    serve(incoming, outgoing).catch(() => reset(incoming))
  })
  server.requestTimeout = 0
  const sockets = new Set<Socket>()
  server.on('secureConnection', (socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    endpoint: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    fingerprint: own.fingerprint,
    calls,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      agent.destroy()
      await closed
    },
  }
}

/** A self-signed certificate is its own authority: whoever shows it later is the one that was pinned. */
async function shownCertificate({ endpoint, fingerprint }: ProxyOptions['upstream']): Promise<string> {
  const { hostname, port } = new URL(endpoint)
  const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve)
      socket.once('error', reject)
    })
    const shown = socket.getPeerX509Certificate()
    if (shown?.fingerprint256 !== fingerprint) throw new Error(`${endpoint} is not who it must be`)
    return shown.toString()
  } finally {
    socket.destroy()
  }
}

/** Ends when the server's answer begins; a client that goes away takes the server's connection with it. */
function forward(
  options: RequestOptions,
  body: Buffer | IncomingMessage,
  outgoing: ServerResponse,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const asked = request(options, resolve)
    asked.once('error', reject)
    outgoing.once('close', () => {
      if (!outgoing.writableFinished) asked.destroy()
    })
    if (Buffer.isBuffer(body)) asked.end(body)
    else if ((body.headers['content-length'] ?? '0') === '0') asked.end()
    else pipeline(body, asked).catch(reject)
  })
}

/** The form of a POST or PUT; undefined for what has no body, or one that is streamed. */
async function formOf(incoming: IncomingMessage): Promise<Buffer | undefined> {
  const { 'content-type': type = '', 'content-length': length = '0' } = incoming.headers
  if (!type.startsWith('application/x-www-form-urlencoded') || length === '0') return undefined
  return await bytesOf(incoming)
}

async function bytesOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of message) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

function parsed(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString())
  } catch {
    return bytes.toString()
  }
}

function passed(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP.includes(name)))
}

/** Like a failing pveproxy it ends the connection, and with it what is left of a body. */
function say(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { status, reason, body = '' }: Answer,
): void {
  if (outgoing.destroyed) return
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const type = typeof body === 'string' ? 'text/plain' : 'application/json;charset=UTF-8'
  const bytes = Buffer.from(text)
  outgoing.shouldKeepAlive = false
  outgoing.writeHead(status, reason, { 'content-type': type, 'content-length': bytes.length })
  outgoing.end(bytes)
  incoming.resume()
}

function reset(incoming: IncomingMessage): void {
  incoming.socket.destroy()
}
