import { afterEach, expect, test, vi } from 'vitest'
import { connect } from '../../src/pve/client.ts'
import { ServerClock } from '../../src/pve/server-clock.ts'
import { pause } from '../core/paused.ts'
import { type Fake, selfSigned, startFake, TOKEN } from './server.ts'

afterEach(() => {
  vi.restoreAllMocks()
})

const at = (seconds: number) => new Date(seconds * 1000).toUTCString()
const THEN = 1_800_000_000

test('tells what the last answer said, and goes on from there by the monotonic clock', () => {
  const clock = new ServerClock()
  clock.heard(at(THEN - 50))
  clock.heard(at(THEN))
  expect(clock.seconds()).toBeCloseTo(THEN, 0)
  pause('stopped', 600)
  expect(clock.seconds()).toBeCloseTo(THEN + 600, 0)
  expect(clock.date().getTime() / 1000).toBeCloseTo(THEN + 600, 0)
  expect(clock.after(300) - THEN).toBeGreaterThanOrEqual(900)
  expect(clock.after(300) - THEN).toBeLessThanOrEqual(902)
})

test('what is over is so by the server’s time, whatever this machine’s says', () => {
  const clock = new ServerClock()
  clock.heard(at(THEN))
  expect(clock.isOver(THEN - 1)).toBe(true)
  expect(clock.isOver(THEN + 60)).toBe(false)
  expect(clock.isOver(undefined)).toBe(false)
})

test.each([undefined, 'tomorrow'])(
  'where the answer says %s there is no time: nothing is over, and what is written has this machine’s',
  (date) => {
    const clock = new ServerClock()
    clock.heard(date)
    expect(clock.seconds()).toBeUndefined()
    expect(clock.isOver(1)).toBe(false)
    const begun = Math.floor(Date.now() / 1000)
    const after = clock.after(10)
    expect(after).toBeGreaterThanOrEqual(begun + 10)
    expect(after).toBeLessThanOrEqual(Math.ceil(Date.now() / 1000) + 10)
  },
)

test('an answer without a time leaves what is known', () => {
  const clock = new ServerClock()
  clock.heard(at(THEN))
  clock.heard(undefined)
  expect(clock.seconds()).toBeCloseTo(THEN, 0)
})

test('a connection knows it from its first answer on, all views of it, and from each later one', async () => {
  const identity = await selfSigned()
  await using fake: Fake = await startFake(identity)
  let now = THEN
  // Whatever the server's own clock says.
  fake.server.prependListener('request', (_, response) => response.setHeader('date', at(now)))
  await using pve = await connect({
    endpoint: fake.endpoint,
    tls: { fingerprint: identity.fingerprint },
    auth: { kind: 'token', token: TOKEN },
    signal: new AbortController().signal,
  })
  expect(pve.clock.seconds()).toBeCloseTo(THEN, 0)
  now += 5000
  const view = pve.withSignal(new AbortController().signal)
  await view.api.version.$get()
  expect(pve.clock.seconds()).toBeCloseTo(THEN + 5000, 0)
  now += 5000
  await pve.api.nodes.$get().catch(() => undefined)
  expect(view.clock.seconds()).toBeCloseTo(THEN + 10_000, 0)
})
