import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { certificate } from '../src/lab/certificate.ts'
import { connect, type Pve } from '../src/pve/client.ts'
import { type ProxyOptions, startProxy } from './campaign/proxy.ts'

/** The proxy that loses and spoils calls, before it is believed what it says about others. */

const seen: string[] = []
let dir: string
let upstream: { endpoint: string; fingerprint: string }
const stack = new AsyncDisposableStack()

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-proxy-test-'))
  stack.defer(() => rm(dir, { recursive: true }))
  const { key, cert, fingerprint } = await certificate(dir, '127.0.0.1')
  const server = createServer({ key, cert }, async (request, response) => {
    const hash = createHash('sha256')
    let bytes = 0
    for await (const chunk of request) {
      hash.update(chunk)
      bytes += chunk.length
    }
    seen.push(`${request.method} ${request.url}`)
    const { 'transfer-encoding': chunked = 'no', 'content-length': length } = request.headers
    const data = { version: '8.4.1', bytes, chunked, length, sha256: hash.digest('hex') }
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ data }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  stack.defer(() => new Promise((resolve) => server.close(() => resolve())))
  upstream = { endpoint: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, fingerprint }
})
afterAll(() => stack.disposeAsync())

async function through(options: Omit<ProxyOptions, 'upstream'>) {
  const proxy = await startProxy({ upstream, ...options })
  const pve: Pve = await connect({
    endpoint: proxy.endpoint,
    auth: { kind: 'token', token: 'a@pve!b=c' },
    tls: { fingerprint: proxy.fingerprint },
    signal: AbortSignal.timeout(120_000),
  })
  const close = async () => {
    await pve[Symbol.asyncDispose]()
    await proxy[Symbol.asyncDispose]()
  }
  return { proxy, pve, [Symbol.asyncDispose]: close }
}

const create = (pve: Pve) => pve.api.nodes.$('n').qemu.$post({ vmid: 100, name: 'a&b' })

test('calls pass, forms and uploads whole, and are recorded', async () => {
  await using way = await through({})
  expect(await create(way.pve)).toMatchObject({ chunked: 'no', length: '19' })
  expect(await way.pve.api.nodes.$('n').qemu.$(100).status.stop.$post()).toMatchObject({
    bytes: 0,
    chunked: 'no',
  })
  const bytes = Buffer.alloc(20_000_000, 'x')
  const source = { bytes }
  await way.pve.upload('n', 'local', { content: 'iso', filename: 'a.iso', source })
  expect(way.proxy.calls.map(({ n, method, path, status }) => [n, method, path, status])).toEqual([
    [1, 'GET', '/version', 200],
    [2, 'POST', '/nodes/n/qemu', 200],
    [3, 'POST', '/nodes/n/qemu/100/status/stop', 200],
    [4, 'POST', '/nodes/n/storage/local/upload', 200],
  ])
  expect(Object.fromEntries(way.proxy.calls[1]?.body ?? [])).toEqual({ vmid: '100', name: 'a&b' })
  expect(way.proxy.calls[3]?.body).toBeUndefined()
})

test('lost before, the server has not seen it; lost after, it has', async () => {
  for (const decision of ['reset-before', 'reset-after'] as const) {
    seen.length = 0
    await using way = await through({ decide: ({ method }) => (method === 'POST' ? decision : 'pass') })
    await expect(create(way.pve)).rejects.toMatchObject({ delivery: 'unknown' })
    expect(seen.filter((line) => line.startsWith('POST'))).toHaveLength(decision === 'reset-after' ? 1 : 0)
  }
})

test('answered otherwise, instead of the server or after it', async () => {
  const fault = { status: 500, reason: 'got no worker', body: { data: null } }
  const ways: [Omit<ProxyOptions, 'upstream'>, number][] = [
    [{ decide: ({ method }) => (method === 'POST' ? fault : 'pass') }, 0],
    [{ answered: ({ method }) => (method === 'POST' ? fault : undefined) }, 1],
  ]
  for (const [options, reached] of ways) {
    seen.length = 0
    await using way = await through(options)
    await expect(create(way.pve)).rejects.toThrow('got no worker')
    expect(seen.filter((line) => line.startsWith('POST'))).toHaveLength(reached)
  }
})

test('whoever shows another certificate than the pinned one gets nothing', async () => {
  const other = { ...upstream, fingerprint: upstream.fingerprint.replace(/^../, 'ZZ') }
  await expect(startProxy({ upstream: other })).rejects.toThrow('not who it must be')
})
