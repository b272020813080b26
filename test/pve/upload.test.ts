import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { ImagebuildError } from '../../src/core/errors.ts'
import { connect, type Pve } from '../../src/pve/client.ts'
import type { PveError } from '../../src/pve/errors.ts'
import type { Upload } from '../../src/pve/upload.ts'
import { pause } from '../core/paused.ts'
import { type Fake, type Identity, rejection, selfSigned, send, startFake, TOKEN } from './server.ts'

const ROUTE = 'POST /nodes/pve/storage/local/upload'
const UPID = 'UPID:pve:00002026:000276C9:6B006953:imgcopy::builder@pve!t1:'

let identity: Identity
let fake: Fake
let pve: Pve
beforeAll(async () => {
  identity = await selfSigned()
})
beforeEach(async () => {
  fake = await startFake(identity)
  fake.on(ROUTE, { json: { data: UPID } })
  pve = await connect({
    endpoint: fake.endpoint,
    tls: { fingerprint: identity.fingerprint },
    auth: { kind: 'token', token: TOKEN },
    signal: AbortSignal.timeout(120_000),
  })
})
afterEach(async () => {
  vi.restoreAllMocks()
  await pve[Symbol.asyncDispose]()
  await fake[Symbol.asyncDispose]()
})
const send1 = (source: Upload['source'], more: Partial<Upload> = {}, options = {}) =>
  pve.upload('pve', 'local', { content: 'import', filename: 'disk.qcow2', source, ...more }, options)

describe('what Proxmox gets', () => {
  test('its parts in its order, Content-Disposition first, an unquoted boundary, the exact length', async () => {
    const value = 'ab'.repeat(32)
    const bytes = Buffer.from('QFI\xfb\r\n--not a boundary\r\n\0', 'latin1')
    expect(await send1({ bytes }, { checksum: { algorithm: 'sha256', value } })).toBe(UPID)
    const [seen] = fake.of(ROUTE)
    const boundary = /^multipart\/form-data; boundary=([A-Za-z0-9-]+)$/.exec(
      String(seen?.headers['content-type']),
    )?.[1]
    const expected = [
      `--${boundary}\r\nContent-Disposition: form-data; name="content"\r\n\r\nimport\r\n`,
      `--${boundary}\r\nContent-Disposition: form-data; name="checksum-algorithm"\r\n\r\nsha256\r\n`,
      `--${boundary}\r\nContent-Disposition: form-data; name="checksum"\r\n\r\n${value}\r\n`,
      `--${boundary}\r\nContent-Disposition: form-data; name="filename"; filename="disk.qcow2"\r\nContent-Type: application/octet-stream\r\n\r\n`,
      `${bytes.toString('latin1')}\r\n--${boundary}--\r\n`,
    ].join('')
    expect(seen?.body.toString('latin1')).toBe(expected)
    expect(seen?.headers['content-length']).toBe(String(expected.length))
    expect(seen?.headers['transfer-encoding']).toBeUndefined()
    expect(seen?.headers.expect).toBeUndefined()
    expect(pve.writes).toBe(1)
  })

  test('a file and a stream arrive byte for byte, with progress up to the end', async () => {
    const bytes = randomBytes(3 * 1024 * 1024 + 17)
    const digest = (data: Uint8Array) => createHash('sha256').update(data).digest('hex')
    const dir = await mkdtemp(join(tmpdir(), 'imagebuild-upload-'))
    try {
      await writeFile(join(dir, 'disk'), bytes)
      async function* stream() {
        for (let at = 0; at < bytes.length; at += 100_003) yield bytes.subarray(at, at + 100_003)
      }
      for (const source of [{ path: join(dir, 'disk') }, { stream: stream(), size: bytes.length }]) {
        const seen: number[] = []
        await send1(
          source,
          {},
          {
            onProgress: (done: number, total: number) => {
              expect(total).toBe(bytes.length)
              seen.push(done)
            },
          },
        )
        expect(seen.length).toBeGreaterThan(5)
        expect(seen).toEqual(seen.toSorted((a, b) => a - b))
        expect(seen.at(-1)).toBe(bytes.length)
        const body = fake.of(ROUTE).at(-1)?.body as Buffer
        const start = body.indexOf('octet-stream\r\n\r\n') + 'octet-stream\r\n\r\n'.length
        expect(digest(body.subarray(start, start + bytes.length))).toBe(digest(bytes))
      }
    } finally {
      await rm(dir, { recursive: true })
    }
  })
})

test('a chunk is done with when the next one is asked for: its memory may be used again', async () => {
  const chunk = Buffer.alloc(2 ** 18)
  async function* stream() {
    for (let index = 1; index <= 64; index++) yield chunk.fill(index)
  }
  await send1({ stream: stream(), size: 64 * chunk.length })
  const body = fake.of(ROUTE).at(-1)?.body as Buffer
  const start = body.indexOf('octet-stream\r\n\r\n') + 'octet-stream\r\n\r\n'.length
  for (let index = 1; index <= 64; index++) {
    const at = start + (index - 1) * chunk.length
    expect(body.subarray(at, at + chunk.length).equals(Buffer.alloc(chunk.length, index))).toBe(true)
  }
})

describe('what goes wrong', () => {
  const large = { bytes: randomBytes(8 * 1024 * 1024) }
  const drop = () =>
    fake.on(`${ROUTE} early`, (_, { request }) => {
      request.once('data', () => request.socket.destroy())
      return undefined
    })

  test('a connection dropped for want of permission is told as that', async () => {
    drop()
    fake.on('GET /access/permissions', { json: { data: { '/vms': { 'VM.Audit': 1 } } } })
    const error = await rejection<ImagebuildError>(send1(large))
    expect(error).toMatchObject({ code: 'permission_denied', exitCode: 77 })
    expect(error.message).toContain('/storage/local: Datastore.AllocateTemplate')
    expect(fake.of('GET /access/permissions')[0]?.query.get('path')).toBe('/storage/local')
  })

  test('one dropped for another reason is not', async () => {
    drop()
    fake.on('GET /access/permissions', {
      json: { data: { '/storage/local': { 'Datastore.AllocateTemplate': 1 } } },
    })
    const error = await rejection<PveError>(send1(large))
    expect(error).toMatchObject({ code: 'unreachable', delivery: 'unknown' })
    expect(error.what).toMatch(/broke off after \d+ of 8388608 bytes/)
  })

  test('a refusal with an empty body in the middle of a large upload', async () => {
    fake.on(`${ROUTE} early`, (_, { response }) => {
      send(response, {
        status: 403,
        reason: 'Permission check failed (/storage/local, Datastore.AllocateTemplate)',
      })
      return undefined
    })
    fake.on('GET /access/permissions', { json: { data: {} } })
    expect(await rejection(send1(large))).toMatchObject({ code: 'permission_denied' })
  })

  test('a parameter that Proxmox does not like', async () => {
    fake.on(ROUTE, {
      status: 400,
      reason: 'Parameter verification failed.',
      json: { errors: { storage: "storage 'local' does not support 'import' content" } },
    })
    const error = await rejection<PveError>(send1({ bytes: Buffer.from('x') }))
    expect(error.fields.storage).toContain("does not support 'import'")
  })

  test('a source that ends early does not pass for a whole file', async () => {
    async function* short() {
      yield Buffer.from('short')
    }
    fake.on('GET /access/permissions', {
      json: { data: { '/storage/local': { 'Datastore.AllocateTemplate': 1 } } },
    })
    const error = await rejection<ImagebuildError>(send1({ stream: short(), size: 100 }))
    expect(error.why).toBe('its source gave 5 bytes, and 100 were announced')
    expect(fake.of(ROUTE)).toHaveLength(0)
  })

  test('a source that fails gives its own error', async () => {
    const own = new Error('the mirror went away')
    async function* broken() {
      yield Buffer.from('x')
      throw own
    }
    expect(await rejection(send1({ stream: broken(), size: 100 }))).toBe(own)
  })

  test('a server that reads nothing: given up for want of progress', async () => {
    fake.on(`${ROUTE} early`, (_, { request }) => {
      request.pause()
      return undefined
    })
    const error = await rejection<PveError>(send1(large, {}, { stallSeconds: 0.3 }))
    expect(error).toMatchObject({ code: 'unreachable' })
    expect(error.why).toContain('nothing moved for 0.3 s')
  })

  test('one that breaks off since this process has paused is sent anew', async () => {
    fake.on(`${ROUTE} early`, (_, { request }) => {
      fake.on(`${ROUTE} early`, { json: {} })
      request.pause()
      pause('stopped', 600)
      setTimeout(() => request.socket.destroy(), 100)
      return undefined
    })
    const dir = await mkdtemp(join(tmpdir(), 'imagebuild-upload-'))
    try {
      const path = join(dir, 'disk.qcow2')
      await writeFile(path, Buffer.alloc(32 * 1024 * 1024))
      expect(await send1({ path })).toBe(UPID)
    } finally {
      await rm(dir, { recursive: true })
    }
    expect(fake.of(ROUTE)).toHaveLength(1)
  })

  test('one whose answer is lost in a pause is not: it may be complete', async () => {
    let count = 0
    fake.on(ROUTE, (_, { request }) => {
      count += 1
      pause('stopped', 600)
      request.socket.destroy()
      return undefined
    })
    fake.on('GET /access/permissions', {
      json: { data: { '/storage/local': { 'Datastore.AllocateTemplate': 1 } } },
    })
    expect(await rejection(send1({ bytes: Buffer.from('x') }))).toMatchObject({ delivery: 'unknown' })
    expect(count).toBe(1)
  })

  test('an abort ends it with its own reason', async () => {
    const abort = new AbortController()
    const reason = new Error('Ctrl-C')
    const onProgress = () => abort.abort(reason)
    expect(await rejection(send1(large, {}, { onProgress, signal: abort.signal }))).toBe(reason)
  })
})
