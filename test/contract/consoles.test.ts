import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { Client } from './client.ts'
import {
  ended,
  LAB_CONSOLES,
  NO_CONSOLES,
  NO_ROOT,
  pinned,
  RELEASES,
  startTarget,
  type Target,
} from './target.ts'

/** Clause 18.1 of pve.md: the serial console, with firmware that finds nothing to boot and says so. */

describe.each(RELEASES)('$name', ({ pve }) => {
  let target: Target
  let guest: string

  beforeAll(async () => {
    target = await startTarget(pve && { pve })
    const vmid = await target.vmid()
    guest = `/nodes/${target.node}/qemu/${vmid}`
    const hardware = { memory: 64, serial0: 'socket', vga: 'serial0', scsi0: `${target.files}:1` }
    const made = await target.client.post(`/nodes/${target.node}/qemu`, { vmid, ...hardware })
    expect((await ended(target, made)).exitstatus).toBe('OK')
  })
  afterAll(() => target?.stop())

  interface Proxy {
    user: string
    ticket: string
    port: number
    upid: string
  }

  async function proxy(root: Client): Promise<Proxy> {
    return (await root.post(`${guest}/termproxy`)).body.data
  }

  /**
   * The text until `enough`, or the status of the refusal, or `closed`.
   * @param onText called at the first text
   */
  function talk(
    client: Client,
    { port, ticket }: Proxy,
    login: string,
    enough: RegExp,
    onText: () => void = () => undefined,
  ): Promise<string> {
    const query = new URLSearchParams({ port: String(port), vncticket: ticket })
    const url = `${client.base.replace(/^http/, 'ws')}/api2/json${guest}/vncwebsocket?${query}`
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url, ['binary'], { ...pinned(target), headers: client.headers() })
      let text = ''
      socket.on('unexpected-response', (_request, { statusCode, statusMessage }) => {
        resolve(`${statusCode} ${statusMessage}`)
        socket.terminate()
      })
      socket.on('error', reject)
      socket.on('open', () => socket.send(login))
      socket.on('close', () => resolve('closed'))
      socket.once('message', onText)
      socket.on('message', (data: Buffer) => {
        text += data.toString()
        if (!enough.test(text)) return
        resolve(text)
        socket.close()
      })
    })
  }

  test('18.1 a stopped guest has none', async ({ skip }) => {
    if (!target.lab) return skip(LAB_CONSOLES)
    const { root } = target
    if (root === undefined) return skip(NO_ROOT)
    expect((await root.post(`${guest}/termproxy`)).reason).toMatch(/^VM \d+ not running$/)
  })

  test('18.1 a ticket reads what the guest says, from its firmware on', async ({ skip }) => {
    const { root } = target
    if (root === undefined) return skip(NO_ROOT)
    if (!target.consoles) return skip(NO_CONSOLES)
    expect((await ended(target, await target.client.post(`${guest}/status/start`))).exitstatus).toBe('OK')
    const it = await proxy(root)
    // What was said before one came is the lab's alone to tell.
    const again = () => void target.client.post(`${guest}/status/reset`)
    const text = await talk(root, it, `${it.user}:${it.ticket}\n`, /SeaBIOS[\s\S]*No bootable device/, again)
    expect(text).toMatch(/^OK/)
    expect((await ended(target, it.upid)).exitstatus).toBe('OK')
  })

  test('18.1 an API token gets a ticket; whether that is taken is the release’s affair', async ({ skip }) => {
    const { client } = target
    if (!target.consoles) return skip(NO_CONSOLES)
    const it = await proxy(client)
    expect(it.user).toMatch(/!/)
    const text = await talk(client, it, `${it.user}:${it.ticket}\n`, /./)
    expect(text).toMatch(target.version < 9 ? /^closed$/ : /^OK/)
  })

  test('18.1 nobody else gets in', async ({ skip }) => {
    const { root, client } = target
    if (root === undefined) return skip(NO_ROOT)
    if (!target.consoles) return skip(NO_CONSOLES)
    const it = await proxy(root)
    const login = `${it.user}:${it.ticket}\n`
    const refused = '401 permission denied - invalid PVEVNC ticket'
    expect(await talk(client, it, login, /./)).toBe(refused)
    expect(await talk(client.as({}), it, login, /./)).toBe('401 No ticket')
    expect(await talk(root, { ...it, ticket: it.ticket.slice(0, -4) }, login, /./)).toBe(refused)
    expect(await talk(root, { ...it, port: it.port + 1 }, login, /./)).toBe(refused)
    expect(await talk(root, it, `${it.user}:wrong\n`, /./)).toBe('closed')
    // The port has been used up.
    expect(await talk(root, it, login, /./)).toBe(refused)
  })
})
