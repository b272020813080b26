import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { connect, type Pve } from '../../src/pve/client.ts'
import { pause, watched } from '../core/paused.ts'
import { type Fake, type Identity, rejection, selfSigned, startFake, TOKEN } from './server.ts'

let identity: Identity
let fake: Fake
let pve: Pve
beforeEach(async () => {
  identity = await selfSigned()
  fake = await startFake(identity)
  pve = await connect({
    endpoint: fake.endpoint,
    tls: { fingerprint: identity.fingerprint },
    auth: { kind: 'token', token: TOKEN },
    signal: AbortSignal.timeout(120_000),
  })
  fake.on('GET /nodes/pve/qemu/110/config', { json: { data: { digest: 'd' } } })
  fake.on('PUT /nodes/pve/qemu/110/config', { json: { data: null } })
})
afterEach(async () => {
  vi.restoreAllMocks()
  await pve[Symbol.asyncDispose]()
  await fake[Symbol.asyncDispose]()
})

const config = (by: Pve) => by.api.nodes.$('pve').qemu.$(110).config

describe('across a pause of this process', () => {
  test('a question is asked again: what was answered before the pause may be so no more', async () => {
    using _watching = watched()
    fake.on('GET /nodes/pve/qemu/110/config', () => {
      const n = fake.of('GET /nodes/pve/qemu/110/config').length
      if (n === 1) pause('stopped', 600)
      return { json: { data: { digest: String(n) } } }
    })
    expect(await config(pve).$get()).toEqual({ digest: '2' })
  })

  test('a change is sent once', async () => {
    using _watching = watched()
    fake.on('PUT /nodes/pve/qemu/110/config', () => {
      pause('stopped', 600)
      return { json: { data: null } }
    })
    await config(pve).$put({})
    expect(fake.of('PUT /nodes/pve/qemu/110/config')).toHaveLength(1)
  })
})

describe('a gate', () => {
  test('holds changes and uploads back, and no questions; of views and of one gate behind another, too', async () => {
    const opened = Promise.withResolvers<void>()
    const inner = vi.fn(async () => {})
    const gated = pve
      .withGate(() => opened.promise)
      .withSignal(new AbortController().signal)
      .withGate(inner)
    fake.on('POST /nodes/pve/storage/local/upload', { json: { data: 'UPID' } })
    const put = config(gated).$put({})
    const upload = gated.upload('pve', 'local', {
      content: 'iso',
      filename: 'a.iso',
      source: { bytes: Buffer.of(1) },
    })
    await config(gated).$get()
    await config(pve).$put({})
    expect(inner).not.toHaveBeenCalled()
    expect(fake.seen.filter(({ method }) => method !== 'GET')).toHaveLength(1)
    opened.resolve()
    await Promise.all([put, upload])
    expect(inner).toHaveBeenCalledTimes(2)
    expect(fake.seen.filter(({ method }) => method !== 'GET')).toHaveLength(3)
  })

  test('that is shut for good: what it throws is the change’s error, and the signal still ends the waiting', async () => {
    const why = new Error('another run has it')
    expect(await rejection(config(pve.withGate(() => Promise.reject(why))).$put({}))).toBe(why)
    const stop = new AbortController()
    const never = pve.withSignal(stop.signal).withGate(() => new Promise(() => {}))
    const put = config(never).$put({})
    stop.abort(new Error('Ctrl-C'))
    expect((await rejection(put)).message).toBe('Ctrl-C')
    expect(fake.of('PUT /nodes/pve/qemu/110/config')).toHaveLength(0)
  })
})
