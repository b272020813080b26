import { expect, test } from 'vitest'
import { built, environment, listener, run } from './runs.ts'
import { json, type Reply, serve } from './server.ts'

const PATH = '/hooks/5ecret-of-the-house'
const WEBHOOK = { notify: [{ kind: 'webhook', url: 'env:HOOK' }] }

/** Tells a server that gives these answers one after the other; what came of it. */
async function told(replies: readonly (Reply | 'reset' | 'silent')[], more: { trySeconds?: number } = {}) {
  await using server = await serve((_, nth) => replies[nth - 1] ?? { status: 200 })
  environment({ HOOK: `${server.url}${PATH}?key=an0ther-5ecret` })
  const listening = listener(more)
  await listening.end(WEBHOOK, run([built]))
  const warnings = listening.warnings.map((text) => text.replaceAll(server.url, 'http://server'))
  return { tries: server.received.length, waits: listening.waits, warnings }
}

const NOT_SENT = 'the message by webhook (http://server/…) was not sent: '

test.each([
  ['a busy server', [{ status: 503 }, { status: 500 }], [2000, 8000]],
  ['a connection that breaks', ['reset'], [2000]],
  ['too many requests, with the seconds to wait', [{ status: 429, headers: { 'retry-after': '7' } }], [7000]],
  [
    'a date to wait for, by the server’s own clock',
    [
      {
        status: 503,
        headers: { 'retry-after': 'Sun, 01 Nov 2026 00:00:09 GMT', date: 'Sun, 01 Nov 2026 00:00:00 GMT' },
      },
    ],
    [9000],
  ],
  ['less than we would wait anyway', [{ status: 429, headers: { 'retry-after': '0' } }], [2000]],
  ['nonsense', [{ status: 429, headers: { 'retry-after': 'soon' } }], [2000]],
] as const)('tried again after %s', async (_, replies, waits) => {
  expect(await told(replies)).toEqual({ tries: replies.length + 1, waits, warnings: [] })
})

test('given up after three tries', async () => {
  expect(await told(Array(9).fill(json(502, { error: 'no upstream' })))).toEqual({
    tries: 3,
    waits: [2000, 8000],
    warnings: [
      `${NOT_SENT}the server answers 502: no upstream (look at the server’s log); the run itself is not affected`,
    ],
  })
})

test('a server that asks for more patience than a run has is not waited for', async () => {
  expect(await told([{ status: 429, headers: { 'retry-after': '3600' } }])).toEqual({
    tries: 1,
    waits: [],
    warnings: [
      `${NOT_SENT}the server answers 429; it asks to try again after 3600 s (the server takes no more for now: send less often, or ask for a higher limit); the run itself is not affected`,
    ],
  })
})

test('a server that says nothing is given up', async () => {
  const { tries, warnings } = await told(['silent', 'silent', 'silent'], { trySeconds: 0.2 })
  expect(tries).toBe(3)
  expect(warnings).toEqual([
    expect.stringContaining(`${NOT_SENT}the server gave no answer in time (check the address`),
  ])
})

test.each([400, 401, 404, 410, 418])('%i is final', async (status) => {
  const { tries, warnings } = await told([{ status }])
  expect(tries).toBe(1)
  expect(warnings).toEqual([expect.stringContaining(`${NOT_SENT}the server answers ${status} (`)])
})

test('redirects are not followed: the next server would get what is secret', async () => {
  await using next = await serve(() => ({ status: 200 }))
  const { tries, warnings } = await told([{ status: 307, headers: { location: next.url } }])
  expect([tries, next.received.length]).toEqual([1, 0])
  expect(warnings).toEqual([expect.stringContaining('the server answers 307 (redirects are not followed')])
})

test('what a server quotes of the address is hidden, and its answer is one short line', async () => {
  const body = `no hook at ${PATH}\n\u001b[2Jkey an0ther-5ecret ${'x'.repeat(500)}`
  const { warnings } = await told([{ status: 400, body }])
  expect(warnings).toEqual([expect.stringMatching(/no hook at \/•{6}\/•{6} key •{6} x{100,200}… \(/)])
  expect(warnings.join()).not.toContain('5ecret')
})

test('a page of HTML tells nothing', async () => {
  const { warnings } = await told([{ status: 404, body: '<!doctype html><h1>Oops</h1>' }])
  expect(warnings).toEqual([expect.stringContaining('the server answers 404 (check the address')])
})

test('nobody listens', async () => {
  await using server = await serve(() => ({ status: 200 }))
  const { url } = server
  await server[Symbol.asyncDispose]()
  environment({ HOOK: `${url}${PATH}` })
  const listening = listener()
  await listening.end(WEBHOOK, run([built]))
  expect(listening.waits).toEqual([2000, 8000])
  expect(listening.warnings).toEqual([
    expect.stringMatching(/ was not sent: connect ECONNREFUSED 127\.0\.0\.1:\d+ \(check the address/),
  ])
})

test.each([
  ['is not set', undefined, 'the secret env:HOOK cannot be read: the environment variable HOOK is not set'],
  [
    'is no address',
    'ftp://5ecret',
    'the message by webhook was not sent: what env:HOOK gives is no http or https URL',
  ],
])('a reference whose value %s is said, and no value', async (_, value, why) => {
  environment(value === undefined ? {} : { HOOK: value })
  const listening = listener()
  await listening.end(WEBHOOK, run([built]))
  expect(listening.warnings).toEqual([expect.stringContaining(why)])
  expect(listening.warnings.join()).not.toContain('5ecret')
})

test('a password manager that waits for an answer is not waited for', async () => {
  const listening = listener({ secretSeconds: 0.2 })
  const notify = [{ kind: 'webhook', url: 'cmd:exec sleep 3600' }]
  await listening.end({ notify }, run([built]))
  expect(listening.warnings).toEqual([
    'the secret cmd:exec sleep 3600 cannot be read: it gave nothing within 0.2 s (let it be read without a question: nobody answers a scheduled run); the run itself is not affected',
  ])
})

test('a signal ends the waiting between tries', async () => {
  await using server = await serve(() => ({ status: 503 }))
  environment({ HOOK: `${server.url}${PATH}` })
  const ending = new AbortController()
  const listening = listener({
    signal: ending.signal,
    pause: async (_, signal) => {
      ending.abort(new Error('the run was ended'))
      signal.throwIfAborted()
    },
  })
  await listening.end(WEBHOOK, run([built]))
  expect(server.received).toHaveLength(1)
  expect(listening.warnings).toEqual([expect.stringContaining('the run was ended')])
})
