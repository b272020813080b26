import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { ImagebuildError } from '../../src/core/errors.ts'
import { connect, type Pve } from '../../src/pve/client.ts'
import type { PveTaskError } from '../../src/pve/errors.ts'
import { parseUpid } from '../../src/pve/tasks.ts'
import { pause } from '../core/paused.ts'
import { type Fake, type Identity, type Reply, rejection, selfSigned, startFake, TOKEN } from './server.ts'

const UPID = 'UPID:node2:00003850:0003F63B:6B006D29:qmcreate:110:builder@pve!t1:'
const PATH = `/nodes/node2/tasks/${UPID}`

let identity: Identity
let fake: Fake
let pve: Pve
/** the task as the server sees it */
let lines: string[]
let ended: string | undefined
beforeAll(async () => {
  identity = await selfSigned()
})
beforeEach(async () => {
  fake = await startFake(identity)
  lines = []
  ended = undefined
  fake.on(
    `GET ${PATH}/status`,
    (): Reply => ({
      json: { data: ended ? { status: 'stopped', exitstatus: ended } : { status: 'running' } },
    }),
  )
  fake.on(`GET ${PATH}/log`, ({ query }): Reply => {
    const start = Number(query.get('start') ?? 0)
    const page = lines
      .slice(start, start + Number(query.get('limit') ?? 50))
      .map((t, i) => ({ n: start + i + 1, t }))
    if (lines.length === 0) return { json: { data: [{ n: 1, t: 'no content' }], total: 1 } }
    return { json: { data: page, total: lines.length } }
  })
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

describe('waiting', () => {
  test('the node comes from the UPID; each line is told once, and an empty log has none', async () => {
    const told: string[] = []
    const wait = pve.waitTask(UPID, { seconds: 60, onLog: (line) => told.push(line) })
    await expect.poll(() => fake.of(`GET ${PATH}/log`).length).toBeGreaterThan(0)
    expect(told).toEqual([])
    lines = ['one', 'two']
    await expect.poll(() => told).toEqual(['one', 'two'])
    lines = ['one', 'two', ...Array.from({ length: 1200 }, (_, i) => `line ${i}`), 'TASK OK']
    ended = 'OK'
    expect(await wait).toEqual({
      upid: UPID,
      node: 'node2',
      type: 'qmcreate',
      id: '110',
      user: 'builder@pve!t1',
      exitstatus: 'OK',
      warnings: 0,
    })
    expect(told).toEqual(lines)
  })

  test('without a listener the log of a good task is not even asked for', async () => {
    ended = 'OK'
    await pve.waitTask(UPID, { seconds: 60 })
    expect(fake.of(`GET ${PATH}/log`)).toHaveLength(0)
  })

  test('a task is asked for until it has ended', async () => {
    const answers = ['running', 'running', 'stopped']
    fake.on(`GET ${PATH}/status`, (): Reply => {
      const status = answers.shift()
      return { json: { data: { status, ...(status === 'stopped' && { exitstatus: 'OK' }) } } }
    })
    expect(await pve.waitTask(UPID, { seconds: 60 })).toMatchObject({ exitstatus: 'OK' })
    expect(answers).toEqual([])
  })

  test('warnings are success', async () => {
    ended = 'WARNINGS: 3'
    expect(await pve.waitTask(UPID, { seconds: 60 })).toMatchObject({
      exitstatus: 'WARNINGS: 3',
      warnings: 3,
    })
  })

  test('failure: the exit status, and the last twenty lines', async () => {
    lines = Array.from({ length: 700 }, (_, i) => `line ${i}`)
    ended = "unable to create VM 110 - volume 'local:import/x.qcow2' does not exist"
    const error = await rejection<PveTaskError>(pve.waitTask(UPID, { seconds: 60 }))
    expect(error).toMatchObject({ code: 'build_failed', upid: UPID, exitstatus: ended, why: ended })
    expect(error.what).toBe('the Proxmox task qmcreate of 110 failed')
    expect(error.output).toEqual(lines.slice(-20))
  })

  test.each([
    ["can not start: can't lock file x - got timeout", 'busy'],
    ['write failed: No space left on device', 'busy'],
    ['VM quit/powerdown failed - got timeout', 'build_failed'],
  ])('%s', async (exitstatus, code) => {
    ended = exitstatus
    expect(await rejection(pve.waitTask(UPID, { seconds: 60 }))).toMatchObject({ code })
  })

  test('a short outage in between does no harm', async () => {
    let times = 0
    fake.on(`GET ${PATH}/status`, (_, { request }): Reply | undefined => {
      times += 1
      if (times === 3) return { json: { data: { status: 'stopped', exitstatus: 'OK' } } }
      if (times === 2) return { status: 595, reason: 'No route to host' }
      request.socket.destroy()
      return undefined
    })
    await pve.waitTask(UPID, { seconds: 60 })
    expect(times).toBe(3)
  })

  test('an outage that goes on after a pause of this process is as long as it was seen', async () => {
    let times = 0
    fake.on(`GET ${PATH}/status`, (): Reply => {
      times += 1
      // A request is tried seven times.
      if (times === 8) pause('stopped', 600)
      if (times > 14) return { json: { data: { status: 'stopped', exitstatus: 'OK' } } }
      return { status: 595, reason: 'No route to host' }
    })
    await pve.waitTask(UPID, { seconds: 60 })
    expect(times).toBe(15)
  })
})

describe('giving up', () => {
  test('when the time is over: says what still runs, with its last lines', async () => {
    lines = ['copying 3%']
    const error = await rejection<ImagebuildError>(pve.waitTask(UPID, { seconds: 0.3 }))
    expect(error).toMatchObject({ code: 'build_failed', output: ['copying 3%'] })
    expect(error.what).toBe('the Proxmox task qmcreate of 110 took longer than 0.3 s')
    expect(error.why).toContain('may still run on node2')
    expect(fake.of(`DELETE ${PATH}`)).toHaveLength(0)
  })

  test.each([
    [true, 1],
    [false, 0],
  ])('an abort stops the task only when asked to: %s', async (stopOnAbort, deletes) => {
    fake.on(`DELETE ${PATH}`, { json: { data: null } })
    const abort = new AbortController()
    const reason = new Error('Ctrl-C')
    setTimeout(() => abort.abort(reason), 50)
    const error = await rejection(pve.waitTask(UPID, { seconds: 60, signal: abort.signal, stopOnAbort }))
    expect(error).toBe(reason)
    expect(fake.of(`DELETE ${PATH}`)).toHaveLength(deletes)
  })
})

test.each([null, undefined, '', 'UPID:x', 'UPID:pve:1:2:3:t:i:u:'])('%s is no UPID', (text) => {
  expect(() => parseUpid(text)).toThrow(TypeError)
})
