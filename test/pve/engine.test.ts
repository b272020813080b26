import type { AddressInfo } from 'node:net'
import { createServer } from 'node:tls'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { ImagebuildError } from '../../src/core/errors.ts'
import { connect, type Pve } from '../../src/pve/client.ts'
import { Engine, encodePath, originOf } from '../../src/pve/engine.ts'
import type { PveError } from '../../src/pve/errors.ts'
import { type Fake, type Identity, rejection, selfSigned, startFake, TOKEN, VERSION } from './server.ts'

let identity: Identity
let fake: Fake
let pve: Pve
let abort: AbortController
beforeAll(async () => {
  identity = await selfSigned()
})
beforeEach(async () => {
  fake = await startFake(identity)
  abort = new AbortController()
  pve = await open()
})
afterEach(async () => {
  await pve[Symbol.asyncDispose]()
  await fake[Symbol.asyncDispose]()
})
const open = (more: { endpoint?: string; requestSeconds?: number } = {}) =>
  connect({
    endpoint: fake.endpoint,
    tls: { fingerprint: identity.fingerprint },
    auth: { kind: 'token', token: TOKEN },
    signal: abort.signal,
    ...more,
  })
const vm = () => pve.api.nodes.$('pve').qemu.$(110)

describe('what goes over the wire', () => {
  test('a form: booleans are 0 and 1, arrays repeat, undefined is left out', async () => {
    fake.on('PUT /nodes/pve/qemu/110/config', { json: { data: null } })
    await vm().config.$put({
      onboot: true,
      protection: false,
      description: 'ä+b & c\n',
      tags: undefined,
    } as never)
    const [seen] = fake.of('PUT /nodes/pve/qemu/110/config')
    expect([...(seen?.form ?? [])]).toEqual([
      ['onboot', '1'],
      ['protection', '0'],
      ['description', 'ä+b & c\n'],
    ])
    expect(seen?.headers).toMatchObject({
      'content-type': 'application/x-www-form-urlencoded',
      'content-length': String(seen?.body.length),
      authorization: `PVEAPIToken=${TOKEN}`,
    })
    expect(seen?.headers['transfer-encoding']).toBeUndefined()

    fake.on('POST /nodes/pve/qemu/110/agent/exec', { json: { data: { pid: 1 } } })
    await vm().agent.exec.$post({ command: ['echo', 'a b'] as never })
    expect(fake.of('POST /nodes/pve/qemu/110/agent/exec')[0]?.form.getAll('command')).toEqual(['echo', 'a b'])
  })

  test('a POST without parameters has length 0 and no content type', async () => {
    fake.on('POST /nodes/pve/qemu/110/status/start', { json: { data: 'UPID' } })
    expect(await vm().status.start.$post()).toBe('UPID')
    const [seen] = fake.of('POST /nodes/pve/qemu/110/status/start')
    expect(seen?.headers['content-length']).toBe('0')
    expect(seen?.headers['content-type']).toBeUndefined()
  })

  test('GET and DELETE carry parameters in the query, and volume ids any character', async () => {
    fake.on('DELETE /nodes/pve/storage/local/content/local:iso/a#b?c d.iso', { json: { data: null } })
    await pve.api.nodes.$('pve').storage.$('local').content.$('local:iso/a#b?c d.iso').$delete({ delay: 5 })
    const seen = fake.seen.at(-1)
    expect(seen?.query.get('delay')).toBe('5')
    expect(seen?.body.length).toBe(0)
    expect(seen?.rawUrl).toContain('local%3Aiso%2Fa%23b%3Fc%20d.iso?')
  })

  test('writes are counted, reads and views are not apart', async () => {
    fake.on('PUT /nodes/pve/qemu/110/config', { json: { data: null } })
    await pve.api.version.$get()
    expect(pve.writes).toBe(0)
    await pve.withSignal(AbortSignal.timeout(120_000)).api.nodes.$('pve').qemu.$(110).config.$put({})
    expect(pve.writes).toBe(1)
  })

  test('connections are kept: ten requests in a row open at most one more', async () => {
    let connections = 0
    fake.server.on('secureConnection', () => {
      connections += 1
    })
    for (let i = 0; i < 10; i++) await pve.api.version.$get()
    expect(connections).toBeLessThan(2)
  })
})

describe('errors', () => {
  const config = 'GET /nodes/pve/qemu/110/config'
  const failing = async (reply: { status: number; reason: string; json?: unknown }) => {
    fake.on(config, reply)
    return rejection<PveError>(vm().config.$get())
  }

  test('401 with an empty body: the reason phrase speaks', async () => {
    const error = await failing({ status: 401, reason: 'no such token' })
    expect(error).toMatchObject({ code: 'permission_denied', status: 401, pveMessage: 'no such token' })
    expect(error.what).toBe('Proxmox answered 401 to GET /nodes/pve/qemu/110/config')
    expect(error.next).toContain('user@realm!tokenid=secret')
    expect(fake.of(config)).toHaveLength(1)
  })

  test('a reason phrase is UTF-8, as Proxmox writes it', async () => {
    const error = await failing({ status: 401, reason: Buffer.from('kein Schlüssel').toString('latin1') })
    expect(error.pveMessage).toBe('kein Schlüssel')
  })

  test('403 names the privilege and the path', async () => {
    const reason = 'Permission check failed (/vms/110, VM.Audit)'
    const error = await failing({ status: 403, reason, json: { data: null, message: `${reason}\n` } })
    expect(error).toMatchObject({ code: 'permission_denied', exitCode: 77, why: reason })
    expect(error.next).toContain('grant VM.Audit on /vms/110')
  })

  test('400 lists each field', async () => {
    const error = await failing({
      status: 400,
      reason: 'Parameter verification failed.',
      json: {
        data: null,
        errors: { cores: "value 'x' is no integer", name: 'too long\n' },
        message: 'Parameter verification failed.\n',
      },
    })
    expect(error.fields).toEqual({ cores: "value 'x' is no integer", name: 'too long\n' })
    expect(error.why).toBe("Parameter verification failed.\ncores: value 'x' is no integer\nname: too long")
  })

  test.each([
    ["Configuration file 'nodes/pve/qemu-server/110.conf' does not exist", 'build_failed', true],
    ["can't lock file '/var/lock/qemu-server/lock-110.conf' - got timeout", 'busy', false],
    ['VM is locked (create)', 'busy', false],
    ['checksum mismatch (file change by other user?)', 'busy', false],
    ['unable to create image: no space left on device', 'busy', false],
    ["unable to parse 'net0'", 'build_failed', false],
  ])('500 %s', async (message, code, isMissing) => {
    const error = await failing({
      status: 500,
      reason: message,
      json: { data: null, message: `${message}\n` },
    })
    expect(error).toMatchObject({ code, isMissing, pveMessage: message })
    expect(fake.of(config)).toHaveLength(1)
  })

  test('a secret that the server repeats does not get into the error', async () => {
    const error = await failing({ status: 500, reason: `bad ${TOKEN}`, json: { message: `bad ${TOKEN}` } })
    expect(JSON.stringify(error) + error.message + error.reason).not.toContain('c0ffee')
  })

  test('something else than Proxmox', async () => {
    fake.on(config, (_, { response }) => {
      response.end('<html>')
      return undefined
    })
    expect(await rejection<PveError>(vm().config.$get())).toMatchObject({
      code: 'unreachable',
      what: `what answers at ${fake.endpoint} is not the Proxmox API`,
    })
  })
})

describe('repeating', () => {
  const config = '/nodes/pve/qemu/110/config'

  test('a GET is repeated when a gateway fails or the connection breaks', async () => {
    let times = 0
    fake.on(`GET ${config}`, (_, { request }) => {
      times += 1
      if (times === 1) return { status: 596, reason: 'Broken pipe' }
      if (times === 3) return { json: { data: { name: 'x' } } }
      request.socket.destroy()
      return undefined
    })
    expect(await vm().config.$get()).toEqual({ name: 'x' })
    expect(times).toBe(3)
  })

  test.each(['POST', 'PUT', 'DELETE'] as const)('a %s that may have arrived is not', async (method) => {
    let times = 0
    const path = method === 'PUT' ? config : method === 'POST' ? '/nodes/pve/qemu' : '/nodes/pve/qemu/110'
    fake.on(`${method} ${path}`, (_, { request }) => {
      times += 1
      request.socket.destroy()
      return undefined
    })
    const calls = {
      POST: () => pve.api.nodes.$('pve').qemu.$post({ vmid: 110 }),
      PUT: () => vm().config.$put({}),
      DELETE: () => vm().$delete(),
    }
    const error = await rejection<PveError>(calls[method]())
    expect(error).toMatchObject({ code: 'unreachable', delivery: 'unknown', status: undefined })
    expect(times).toBe(1)
  })

  const request = async (method: string, path: string) => {
    const { endpoint } = fake
    const tls = { fingerprint: identity.fingerprint }
    await using engine = new Engine({ endpoint, tls, auth: { kind: 'token', token: TOKEN } })
    return await engine.request(method, path, {}, { signal: abort.signal })
  }
  const GONE = "Configuration file 'nodes/pve/qemu-server/110.conf' does not exist"
  const RESET = 'failed to read from command socket: Connection reset by peer'
  test.each([
    ['the list of VMs', '/nodes/pve/qemu', GONE, true],
    ['the list of containers', '/nodes/pve/lxc', GONE, true],
    ['a container’s status', '/nodes/pve/lxc/110/status/current', RESET, true],
    // There it means that the guest is gone, or something that does not pass.
    ['one guest’s configuration', '/nodes/pve/qemu/110/config', GONE, false],
    ['one VM’s status', '/nodes/pve/qemu/110/status/current', GONE, false],
    ['a container’s status, gone', '/nodes/pve/lxc/110/status/current', GONE, false],
    ['the list, for another reason', '/nodes/pve/qemu', 'unable to open file', false],
  ])('a 500 that passes, by its words: %s', async (_what, path, reason, passes) => {
    let times = 0
    fake.on(`GET ${path}`, () => (++times === 1 ? { status: 500, reason } : { json: { data: [] } }))
    const asked = request('GET', path)
    if (passes) expect((await asked).data).toEqual([])
    else await expect(asked).rejects.toMatchObject({ status: 500 })
    expect(times).toBe(passes ? 2 : 1)
  })

  test('a 500 that passes never does, with a bound; and a write with these words is sent once', async () => {
    const reply = { status: 500, reason: GONE }
    fake.on('GET /nodes/pve/lxc', reply)
    fake.on('POST /nodes/pve/lxc', reply)
    await expect(request('GET', '/nodes/pve/lxc')).rejects.toMatchObject({ status: 500 })
    expect(fake.of('GET /nodes/pve/lxc')).toHaveLength(7)
    await expect(request('POST', '/nodes/pve/lxc')).rejects.toMatchObject({ status: 500 })
    expect(fake.of('POST /nodes/pve/lxc')).toHaveLength(1)
  })

  test('a POST answered by a failing gateway is not repeated either', async () => {
    fake.on('POST /nodes/pve/qemu', { status: 596, reason: 'timeout' })
    expect((await rejection<PveError>(pve.api.nodes.$('pve').qemu.$post({ vmid: 1 }))).status).toBe(596)
    expect(fake.of('POST /nodes/pve/qemu')).toHaveLength(1)
  })

  test('a POST that never left is sent as soon as there is somebody', async () => {
    const { port } = fake.server.address() as AddressInfo
    await fake[Symbol.asyncDispose]()
    const call = pve.api.nodes.$('pve').qemu.$post({ vmid: 110 })
    await new Promise((resolve) => setTimeout(resolve, 100))
    fake = await startFake(identity, port)
    fake.on('POST /nodes/pve/qemu', { json: { data: 'UPID' } })
    expect(await call).toBe('UPID')
    expect(fake.of('POST /nodes/pve/qemu')).toHaveLength(1)
  })

  test('nobody there: unreachable, soon', async () => {
    const { endpoint } = fake
    await fake[Symbol.asyncDispose]()
    const error = await rejection<PveError>(open({ endpoint }))
    expect(error).toMatchObject({ code: 'unreachable', delivery: 'unsent', exitCode: 69 })
    expect(error.message).toMatch(/ECONNREFUSED/)
    fake = await startFake(identity)
  })

  test('no such host', async () => {
    const error = await rejection<PveError>(open({ endpoint: 'https://no-such-host.invalid:8006' }))
    expect(error).toMatchObject({ code: 'unreachable', delivery: 'unsent' })
  })
})

describe('deadlines', () => {
  test('a request without an answer ends, and is not repeated', async () => {
    await using quick = await open({ requestSeconds: 3 })
    fake.on('GET /nodes', () => undefined)
    const error = await rejection<PveError>(quick.api.nodes.$get())
    expect(error).toMatchObject({ code: 'unreachable', delivery: 'unknown' })
    expect(error.why).toContain('longer than 3 s')
    expect(fake.of('GET /nodes')).toHaveLength(1)
  })

  test("the signal's own reason comes back; a view under another signal goes on", async () => {
    fake.on('GET /nodes', () => undefined)
    const call = pve.api.nodes.$get()
    const reason = new Error('Ctrl-C')
    setTimeout(() => abort.abort(reason), 50)
    expect(await rejection(call)).toBe(reason)
    expect(await rejection(pve.api.version.$get())).toBe(reason)
    expect(await pve.withSignal(AbortSignal.timeout(120_000)).api.version.$get()).toEqual(VERSION.json.data)
  })
})

test('an answer may arrive in any pieces', async () => {
  const text = JSON.stringify({ data: { version: '8.4-ä€😀', release: '8.4' } })
  const answer = Buffer.from(
    `HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  )
  const server = createServer({ key: identity.key, cert: identity.cert, allowHalfOpen: true }, (socket) => {
    socket.setNoDelay(true).on('error', () => {})
    socket.once('data', async () => {
      for (const byte of answer) {
        socket.write(Buffer.of(byte))
        await new Promise((resolve) => setImmediate(resolve))
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  await using slow = await open({ endpoint: `https://localhost:${(server.address() as AddressInfo).port}` })
  expect(slow.version).toEqual({ major: 8, minor: 4, text: '8.4-ä€😀' })
  await slow[Symbol.asyncDispose]()
  server.close()
})

describe('endpoints and paths', () => {
  test.each([
    ['https://pve.example', 'https://pve.example:8006'],
    ['https://pve.example:443/', 'https://pve.example'],
    ['https://pve:8006/api2/json', 'https://pve:8006'],
    ['https://[fe80::1]', 'https://[fe80::1]:8006'],
  ])('%s', (endpoint, origin) => expect(originOf(endpoint)).toBe(origin))

  test.each(['http://pve:8006', 'pve:8006', 'pve', 'https://u:p@pve', 'https://pve/x', ''])(
    'refused: %s',
    (text) => {
      expect(() => originOf(text)).toThrow(
        expect.objectContaining({ code: 'definition_invalid' }) as ImagebuildError,
      )
    },
  )

  test('an empty or relative segment is never sent', () => {
    expect(() => encodePath('/nodes//qemu')).toThrow(TypeError)
    expect(() => encodePath('/nodes/../access')).toThrow(TypeError)
  })
})
