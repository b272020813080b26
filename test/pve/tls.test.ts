import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { ImagebuildError } from '../../src/core/errors.ts'
import { connect } from '../../src/pve/client.ts'
import { ProvenAgent, type TlsTrust } from '../../src/pve/tls.ts'
import { type Fake, type Identity, rejection, selfSigned, startFake, TOKEN } from './server.ts'

let identity: Identity
let other: Identity
let fake: Fake
beforeAll(async () => {
  ;[identity, other] = await Promise.all([selfSigned(), selfSigned()])
  fake = await startFake(identity)
})
afterAll(async () => fake[Symbol.asyncDispose]())

const to = (endpoint: string, tls: TlsTrust) =>
  connect({ endpoint, tls, auth: { kind: 'token', token: TOKEN }, signal: AbortSignal.timeout(120_000) })

/** A TLS server that keeps every byte a client says after the handshake. */
async function recorder(of: Identity) {
  const bytes: Buffer[] = []
  const sockets: TLSSocket[] = []
  const server = createServer({ key: of.key, cert: of.cert }, (socket) => {
    sockets.push(socket)
    socket.on('data', (chunk) => bytes.push(chunk)).on('error', () => {})
  })
  server.on('tlsClientError', () => {})
  let connections = 0
  server.on('connection', () => {
    connections += 1
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    said: () => Buffer.concat(bytes).toString(),
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

describe('TLS', () => {
  test.each([
    ['as Proxmox shows it', (text: string) => text],
    ['in lower case without colons', (text: string) => text.replaceAll(':', '').toLowerCase()],
  ])('a pinned fingerprint is enough, %s', async (_, write) => {
    await using pve = await to(fake.endpoint, { fingerprint: write(fake.fingerprint) })
    expect(pve.version).toEqual({ major: 8, minor: 4, text: '8.4.21' })
  })

  test('a wrong fingerprint: both are named, and the server gets nothing, least of all the token', async () => {
    await using server = await recorder(identity)
    const error = await rejection<ImagebuildError>(
      to(`https://localhost:${server.port}`, { fingerprint: other.fingerprint }),
    )
    expect(error).toMatchObject({ code: 'unreachable', exitCode: 69 })
    expect(error.message).toContain(identity.fingerprint)
    expect(error.message).toContain(other.fingerprint)
    expect(error.next).toContain('pvenode cert info')
    // Long enough for bytes on their way; and a wrong certificate is not tried again.
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(server.said()).toBe('')
    expect(server.connections()).toBe(1)
  })

  test('a WebSocket, as consoles are, says nothing either where the certificate is another one', async () => {
    await using server = await recorder(identity)
    const open = (fingerprint: string) => {
      const agent = new ProvenAgent({ fingerprint })
      const headers = { cookie: 'PVEAuthCookie=secret' }
      const socket = new WebSocket(`wss://localhost:${server.port}/`, ['binary'], { agent, headers })
      const failed = new Promise<Error>((resolve) => socket.on('error', resolve))
      return { failed, [Symbol.dispose]: () => agent.destroy() }
    }
    using wrong = open(other.fingerprint)
    expect((await wrong.failed).message).toContain('its certificate is not the pinned one')
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(server.said()).toBe('')
    using _right = open(identity.fingerprint)
    await expect.poll(() => server.said()).toContain('PVEAuthCookie=secret')
  })

  test('the recorder does hear what a trusting client says', async () => {
    await using server = await recorder(identity)
    const abort = new AbortController()
    const attempt = connect({
      endpoint: `https://localhost:${server.port}`,
      tls: { fingerprint: identity.fingerprint },
      auth: { kind: 'token', token: TOKEN },
      signal: abort.signal,
    })
    await expect.poll(() => server.said()).toContain(`PVEAPIToken=${TOKEN}`)
    abort.abort(new Error('enough'))
    expect((await rejection(attempt)).message).toBe('enough')
  })

  test('an abort ends a connection that is just coming about, and waits for nobody', async () => {
    const sockets: Socket[] = []
    const abort = new AbortController()
    const ended = Promise.withResolvers<void>()
    // Takes connections, and never says a word of TLS.
    const server = createTcpServer((socket) => {
      sockets.push(socket.on('error', () => {}).on('close', () => ended.resolve()))
      socket.once('data', () => abort.abort(new Error('enough')))
      socket.resume()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const attempt = connect({
      endpoint: `https://localhost:${(server.address() as AddressInfo).port}`,
      tls: { fingerprint: identity.fingerprint },
      auth: { kind: 'token', token: TOKEN },
      signal: abort.signal,
    })
    expect((await rejection(attempt)).message).toBe('enough')
    await ended.promise
    expect(sockets).toHaveLength(1)
    await new Promise((resolve) => server.close(resolve))
  })

  test('a CA vouches for the names in its certificates', async () => {
    await using pve = await to(fake.endpoint, { ca: identity.cert })
    expect(pve.user).toBe('builder@pve!t1')
  })

  test.each<[string, () => TlsTrust, string]>([
    ['another CA', () => ({ ca: other.cert }), 'localhost'],
    ['the trust of the system', () => ({ system: true }), 'localhost'],
    ['the right CA, but a name that is not in the certificate', () => ({ ca: identity.cert }), '127.0.0.1'],
  ])('refused, and nothing sent: %s', async (_, tls, host) => {
    await using server = await recorder(identity)
    const error = await rejection<ImagebuildError>(to(`https://${host}:${server.port}`, tls()))
    expect(error.code).toBe('unreachable')
    expect(error.message).toContain('certificate is not trusted')
    expect(error.next).toContain('fingerprint')
    expect(server.said()).toBe('')
    expect(server.connections()).toBe(1)
  })

  test.each<[string, TlsTrust]>([
    ['SHA-256 fingerprint', { fingerprint: 'AB:CD' }],
    ['PEM', { ca: 'not a certificate' }],
  ])('what is no %s is a fault of the configuration', async (named, tls) => {
    const error = await rejection<ImagebuildError>(to(fake.endpoint, tls))
    expect(error.code).toBe('definition_invalid')
    expect(error.message).toContain(named)
  })
})
