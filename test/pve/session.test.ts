import { Readable } from 'node:stream'
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { connect } from '../../src/pve/client.ts'
import type { PveError } from '../../src/pve/errors.ts'
import { type Credentials, RENEW_AFTER_SECONDS } from '../../src/pve/session.ts'
import type { Upload } from '../../src/pve/upload.ts'
import { type Fake, type Identity, type Reply, rejection, selfSigned, startFake, VERSION } from './server.ts'

const LOGIN = 'POST /access/ticket'
const PASSWORD = 'correct horse+battery'
const auth: Credentials = { kind: 'ticket', username: 'root@pam', password: PASSWORD }

let identity: Identity
let fake: Fake
/** tickets that are good now */
let valid: Set<string>
beforeAll(async () => {
  identity = await selfSigned()
})
beforeEach(async () => {
  fake = await startFake(identity)
  valid = new Set()
  fake.on(LOGIN, ({ form }): Reply => {
    const password = form.get('password') ?? ''
    if (password !== PASSWORD && !valid.has(password)) {
      return { status: 401, reason: 'authentication failure', json: { message: 'authentication failure\n' } }
    }
    const ticket = `PVE:root@pam:6B00::sig+/${fake.of(LOGIN).length}==`
    valid.add(ticket)
    return { json: { data: { ticket, CSRFPreventionToken: `csrf:${ticket}`, username: 'root@pam' } } }
  })
  fake.on('GET /version', guarded(VERSION))
  fake.on('POST /nodes/pve/qemu', guarded({ json: { data: 'UPID' } }))
})
afterEach(async () => {
  vi.restoreAllMocks()
  await fake[Symbol.asyncDispose]()
})
/** Answers whoever has a ticket that is good now. */
const guarded =
  (reply: Reply) =>
  ({ headers, method }: { headers: Record<string, unknown>; method: string }): Reply => {
    const ticket = decodeURIComponent(/PVEAuthCookie=([^;]*)/.exec(String(headers.cookie))?.[1] ?? '')
    if (!valid.has(ticket)) return { status: 401, reason: 'Authentication failed!' }
    if (method !== 'GET' && headers.csrfpreventiontoken !== `csrf:${ticket}`) {
      return { status: 401, reason: 'Permission denied - invalid csrf token' }
    }
    return reply
  }
const open = (credentials: Credentials = auth) =>
  connect({
    endpoint: fake.endpoint,
    tls: { fingerprint: identity.fingerprint },
    auth: credentials,
    signal: AbortSignal.timeout(120_000),
  })

describe('ticket', () => {
  test('logs in once; writes carry the CSRF token, reads do not; a login is no write', async () => {
    await using pve = await open()
    expect(pve).toMatchObject({ kind: 'ticket', user: 'root@pam', writes: 0 })
    await pve.api.nodes.$('pve').qemu.$post({ vmid: 100 })
    expect(fake.of(LOGIN)).toHaveLength(1)
    expect(fake.of('GET /version')[0]?.headers.csrfpreventiontoken).toBeUndefined()
    expect(fake.of(LOGIN)[0]?.headers.cookie).toBeUndefined()
    expect(pve.writes).toBe(1)
  })

  test('an expired ticket: one new login for all, and even a POST is sent again, since a 401 did nothing', async () => {
    await using pve = await open()
    valid.clear()
    const create = () => pve.api.nodes.$('pve').qemu.$post({ vmid: 100 })
    expect(await Promise.all([create(), create(), pve.api.version.$get()])).toEqual([
      'UPID',
      'UPID',
      VERSION.json.data,
    ])
    expect(fake.of(LOGIN)).toHaveLength(2)
  })

  test('an expired ticket: an upload is sent again, but what can be read only once is not', async () => {
    fake.on('POST /nodes/pve/storage/local/upload', guarded({ json: { data: 'UPID' } }))
    await using pve = await open()
    const bytes = Buffer.from('a disk')
    const upload = (source: Upload['source']) =>
      pve.upload('pve', 'local', { content: 'import', filename: 'disk.qcow2', source })
    valid.clear()
    expect(await upload({ bytes })).toBe('UPID')
    const [first, second] = fake.of('POST /nodes/pve/storage/local/upload')
    expect(second?.body.length).toBe(first?.body.length)
    expect(pve.writes).toBe(1)
    valid.clear()
    const stream = Readable.from([bytes], { objectMode: false })
    expect(await rejection<PveError>(upload({ stream, size: bytes.length }))).toMatchObject({ status: 401 })
    expect(fake.of(LOGIN)).toHaveLength(2)
  })

  test('renewed by the ticket itself well before its two hours', async () => {
    await using pve = await open()
    const now = performance.now()
    vi.spyOn(performance, 'now').mockImplementation(() => now + RENEW_AFTER_SECONDS * 1000 + 1)
    await pve.api.version.$get()
    await pve.api.version.$get()
    const logins = fake.of(LOGIN)
    expect(logins).toHaveLength(2)
    expect(logins[1]?.form.get('password')).toMatch(/^PVE:root@pam/)
    expect(RENEW_AFTER_SECONDS).toBeLessThan(7200)
  })

  test('renewed by the password where the ticket has died meanwhile', async () => {
    await using pve = await open()
    valid.clear()
    const now = performance.now()
    vi.spyOn(performance, 'now').mockImplementation(() => now + RENEW_AFTER_SECONDS * 1000 + 1)
    await pve.api.version.$get()
    expect(fake.of(LOGIN).map(({ form }) => form.get('password') === PASSWORD)).toEqual([true, false, true])
  })

  test('a wrong password: refused once, and not repeated in the error', async () => {
    const error = await rejection<PveError>(open({ ...auth, password: 'not that one' }))
    expect(error).toMatchObject({
      code: 'permission_denied',
      status: 401,
      pveMessage: 'authentication failure',
    })
    expect(JSON.stringify(error)).not.toContain('not that one')
    expect(fake.of(LOGIN)).toHaveLength(1)
  })

  test('a login that is refused is refused once for all who wait for it', async () => {
    await using pve = await open()
    valid.clear()
    // All three hear at once that their ticket is no good.
    const { promise: allAsked, resolve } = Promise.withResolvers<void>()
    let asked = 0
    fake.on('GET /version', async () => {
      asked += 1
      if (asked === 3) resolve()
      await allAsked
      return { status: 401, reason: 'Authentication failed!' }
    })
    // Proxmox takes 3 s to refuse; a tenth of a second is enough for all three to wait for it.
    fake.on(LOGIN, async () => {
      await new Promise((resolve) => setTimeout(resolve, 100))
      return { status: 401, reason: 'authentication failure' }
    })
    const calls = [1, 2, 3].map(() => rejection<PveError>(pve.api.version.$get()))
    expect((await Promise.all(calls)).map(({ status }) => status)).toEqual([401, 401, 401])
    expect(fake.of(LOGIN)).toHaveLength(2)
  })

  test('whoever gives up a login for all does not spoil it for the others', async () => {
    await using pve = await open()
    valid.clear()
    const abort = new AbortController()
    const answer = Promise.withResolvers<void>()
    fake.on(LOGIN, async (): Promise<Reply> => {
      if (fake.of(LOGIN).length === 2) await answer.promise
      valid.add('new')
      return { json: { data: { ticket: 'new', CSRFPreventionToken: 'csrf:new', username: 'root@pam' } } }
    })
    const reason = new Error('Ctrl-C')
    const first = rejection(pve.withSignal(abort.signal).api.version.$get())
    await expect.poll(() => fake.of(LOGIN).length).toBe(2)
    const second = pve.api.version.$get()
    await expect.poll(() => fake.of('GET /version').length).toBeGreaterThan(1)
    abort.abort(reason)
    expect(await first).toBe(reason)
    expect(await second).toEqual(VERSION.json.data)
    answer.resolve()
  })

  test('always 401: one new login, then the error', async () => {
    fake.on('GET /version', { status: 401, reason: 'Authentication failed!' })
    expect((await rejection<PveError>(open())).status).toBe(401)
    expect(fake.of(LOGIN)).toHaveLength(2)
    expect(fake.of('GET /version')).toHaveLength(2)
  })
})

describe('second factor', () => {
  beforeEach(() => {
    fake.on(LOGIN, ({ form }): Reply => {
      if (form.get('tfa-challenge') === 'PVE:!tfa!x' && form.get('password') === 'totp:123456') {
        valid.add('T')
        return { json: { data: { ticket: 'T', CSRFPreventionToken: 'csrf:T', username: 'root@pam' } } }
      }
      return { json: { data: { ticket: 'PVE:!tfa!x', NeedTFA: 1, username: 'root@pam' } } }
    })
  })

  test('the challenge is answered with the code', async () => {
    await using pve = await open({ ...auth, otp: '123456' })
    expect(pve.version.major).toBe(8)
  })

  test('without a code: says so', async () => {
    const error = await rejection<PveError>(open())
    expect(error).toMatchObject({
      code: 'permission_denied',
      what: 'root@pam needs a second factor to log in',
    })
    expect(error.next).toContain('API token')
  })
})

describe('token', () => {
  test.each(['nonsense', 'root@pam!t1', 'root!t1=abc', 'root@pam=abc', ''])(
    'malformed: %s',
    async (token) => {
      const error = await rejection<PveError>(open({ kind: 'token', token }))
      expect(error).toMatchObject({ code: 'permission_denied', exitCode: 77 })
      expect(error.why).toContain('user@realm!tokenid=secret')
      expect(fake.seen).toHaveLength(0)
    },
  )

  test('unknown to Proxmox: no second try, no login', async () => {
    fake.on('GET /version', { status: 401, reason: 'Authentication failed!' })
    const error = await rejection<PveError>(open({ kind: 'token', token: 'a@pve!b=secretsecret' }))
    expect(error).toMatchObject({ code: 'permission_denied', pveMessage: 'Authentication failed!' })
    expect(fake.seen.map(({ method, path }) => `${method} ${path}`)).toEqual(['GET /version'])
  })
})
