import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import { connect } from '../../src/pve/client.ts'
import type { GuestConsole } from '../../src/pve/console.ts'
import type { PveError } from '../../src/pve/errors.ts'
import type { Credentials } from '../../src/pve/session.ts'
import { type Fake, type Identity, rejection, selfSigned, startFake, TOKEN } from './server.ts'

const TICKET: Credentials = { kind: 'ticket', username: 'root@pam', password: 'password' }

let identity: Identity
let fake: Fake
let abort: AbortController
/** what the client said over the socket */
let said: string[]
let upgrade:
  | { url: URL; cookie: string | undefined; authorization: string | undefined; protocol: string }
  | undefined
/** what the server does once the login has come */
let talk: (socket: WebSocket) => void
beforeAll(async () => {
  identity = await selfSigned()
})
beforeEach(async () => {
  fake = await startFake(identity)
  abort = new AbortController()
  said = []
  upgrade = undefined
  fake.on('POST /access/ticket', {
    json: { data: { ticket: 'PVE:root@pam:T+=', CSRFPreventionToken: 'C', username: 'root@pam' } },
  })
  fake.on('POST /nodes/pve/qemu/110/termproxy', {
    json: { data: { port: 5900, ticket: 'PVEVNC:6B::a+b/c==', user: 'root@pam', upid: 'UPID' } },
  })
  const sockets = new WebSocketServer({
    server: fake.server,
    handleProtocols: (offered) => [...offered][0] ?? false,
  })
  sockets.on('connection', (socket, request) => {
    upgrade = {
      url: new URL(request.url ?? '', 'https://localhost'),
      cookie: request.headers.cookie,
      authorization: request.headers.authorization,
      protocol: socket.protocol,
    }
    socket.on('message', (data) => {
      said.push(String(data))
      if (said.length === 1) talk(socket)
    })
  })
})
afterEach(async () => fake[Symbol.asyncDispose]())
const open = (auth: Credentials = TICKET) =>
  connect({
    endpoint: fake.endpoint,
    tls: { fingerprint: identity.fingerprint },
    auth,
    signal: AbortSignal.any([abort.signal, AbortSignal.timeout(120_000)]),
  })

test('text as it comes, whatever the pieces, until the guest ends', async () => {
  const bytes = Buffer.from('Debian – GRUB\r\nlogin: ')
  talk = (socket) => {
    socket.send(Buffer.concat([Buffer.from('OK'), bytes.subarray(0, 8)]))
    // In the middle of the dash, which takes three bytes.
    for (const byte of bytes.subarray(8)) socket.send(Buffer.of(byte))
    setTimeout(() => socket.close(), 50)
  }
  await using pve = await open()
  using console = (await pve.openConsole({ kind: 'vm', node: 'pve', vmid: 110 })) as GuestConsole
  console.send('ü\n')
  let text = ''
  for await (const chunk of console) text += chunk
  expect(text).toBe('Debian – GRUB\r\nlogin: ')
  expect(said).toEqual(['root@pam:PVEVNC:6B::a+b/c==\n', '0:3:ü\n'])
  expect(upgrade?.url.pathname).toBe('/api2/json/nodes/pve/qemu/110/vncwebsocket')
  expect(Object.fromEntries(upgrade?.url.searchParams ?? [])).toEqual({
    port: '5900',
    vncticket: 'PVEVNC:6B::a+b/c==',
  })
  expect(decodeURIComponent(upgrade?.cookie ?? '')).toBe('PVEAuthCookie=PVE:root@pam:T+=')
  expect(upgrade?.protocol).toBe('binary')
  expect(fake.of('POST /nodes/pve/qemu/110/termproxy')[0]?.form.get('serial')).toBe('serial0')
})

const absent = 'property is missing and it is not optional'
const unknown = 'property is not defined in schema and the schema does not allow additional properties'
const wrong = { status: 400, reason: 'Parameter verification failed.' }

test.each([
  [
    'there is no path for the check of tickets',
    { status: 501, reason: "Method 'POST /access/vncticket' not implemented", json: { data: null } },
  ],
  [
    'that does not know a ticket’s port',
    { ...wrong, json: { data: null, errors: { vncticket: absent, port: unknown } } },
  ],
])('where %s, tokens get a reason, and no console is tried', async (_, answer) => {
  fake.on('POST /access/vncticket', answer)
  await using pve = await open({ kind: 'token', token: TOKEN })
  expect(await pve.openConsole({ kind: 'vm', node: 'pve', vmid: 110 })).toEqual({
    unavailable: 'this Proxmox VE opens consoles for ticket logins only; its updates do for API tokens, too',
  })
  expect(fake.of('POST /nodes/pve/qemu/110/termproxy')).toEqual([])
})

describe('where tokens are let in', () => {
  const user = TOKEN.slice(0, TOKEN.indexOf('='))
  beforeEach(() => {
    fake.on('POST /access/vncticket', { ...wrong, json: { data: null, errors: { vncticket: absent } } })
    fake.on('POST /nodes/pve/lxc/111/termproxy', {
      json: { data: { port: '5901', ticket: 'PVEVNC:T', user, upid: 'UPID' } },
    })
  })

  test('to containers too', async () => {
    talk = (socket) => {
      socket.send('OKsystemd 257\r\n')
      setTimeout(() => socket.close(), 50)
    }
    await using pve = await open({ kind: 'token', token: TOKEN })
    using console = (await pve.openConsole({ kind: 'lxc', node: 'pve', vmid: 111 })) as GuestConsole
    let text = ''
    for await (const chunk of console) text += chunk
    expect(text).toBe('systemd 257\r\n')
    expect(said).toEqual([`${user}:PVEVNC:T\n`])
    expect(upgrade?.authorization).toBe(`PVEAPIToken=${TOKEN}`)
    expect(upgrade?.cookie).toBeUndefined()
  })

  test.each([
    { kind: 'token', token: TOKEN } as const,
    { kind: 'ticket', username: 'me@pve', password: 'p' } as const,
  ])('who lacks VM.Console is told so: $kind', async (auth) => {
    fake.on('POST /access/ticket', {
      json: { data: { ticket: 'PVE:me@pve:T', CSRFPreventionToken: 'C', username: 'me@pve' } },
    })
    const reason = 'Permission check failed (/vms/110, VM.Console)'
    fake.on('POST /nodes/pve/qemu/110/termproxy', { status: 403, reason, json: { data: null } })
    await using pve = await open(auth)
    expect(await pve.openConsole({ kind: 'vm', node: 'pve', vmid: 110 })).toEqual({
      unavailable: `${auth.kind === 'token' ? user : 'me@pve'} lacks VM.Console on /vms/110`,
    })
  })
})

test('an abort ends the text', async () => {
  talk = (socket) => socket.send('OK')
  await using pve = await open()
  using console = (await pve.openConsole({ kind: 'vm', node: 'pve', vmid: 110 })) as GuestConsole
  setTimeout(() => abort.abort(new Error('enough')), 50)
  for await (const _ of console) throw new Error('nothing was said')
})

test.each([
  ['closed', (socket: WebSocket) => socket.close()],
  ['something else than OK', (socket: WebSocket) => socket.send('permission denied')],
])('a login that fails: %s', async (_, answer) => {
  talk = answer
  await using pve = await open()
  const error = await rejection<PveError>(pve.openConsole({ kind: 'vm', node: 'pve', vmid: 110 }))
  expect(error).toMatchObject({ code: 'unreachable', what: 'the console of VM 110 on pve does not open' })
  expect(JSON.stringify(error)).not.toContain('PVEVNC')
  expect(error.next).toContain('qm terminal 110')
})
