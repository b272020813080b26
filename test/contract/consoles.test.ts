import { afterAll, beforeAll, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { Client } from './client.ts'
import { ended, startTarget, type Target } from './target.ts'

/** Clause 18.1 of pve.md: the serial console, with firmware that finds nothing to boot and says so. */

let target: Target
let guest: string

beforeAll(async () => {
  target = await startTarget()
  const vmid = await target.vmid()
  guest = `/nodes/${target.node}/qemu/${vmid}`
  const hardware = { memory: 64, serial0: 'socket', vga: 'serial0', scsi0: `${target.files}:1` }
  const made = await target.client.post(`/nodes/${target.node}/qemu`, { vmid, ...hardware })
  expect((await ended(target, made)).exitstatus).toBe('OK')
})
afterAll(async () => {
  await ended(target, await target.client.post(`${guest}/status/stop`))
  await ended(target, await target.client.delete(guest))
  await target.stop()
})

interface Proxy {
  user: string
  ticket: string
  port: number
  upid: string
}

async function proxy(root: Client): Promise<Proxy> {
  return (await root.post(`${guest}/termproxy`)).body.data
}

/** The text until `enough`, or the status of the refusal, or `closed`. */
function talk(client: Client, { port, ticket }: Proxy, login: string, enough: RegExp): Promise<string> {
  const query = new URLSearchParams({ port: String(port), vncticket: ticket })
  const url = `${client.base.replace(/^http/, 'ws')}/api2/json${guest}/vncwebsocket?${query}`
  return new Promise((resolve, reject) => {
    // The server is the suite's own, on loopback.
    const socket = new WebSocket(url, ['binary'], { ca: target.ca as string, headers: client.headers() })
    let text = ''
    socket.on('unexpected-response', (_request, { statusCode, statusMessage }) => {
      resolve(`${statusCode} ${statusMessage}`)
      socket.terminate()
    })
    socket.on('error', reject)
    socket.on('open', () => socket.send(login))
    socket.on('close', () => resolve('closed'))
    socket.on('message', (data: Buffer) => {
      text += data.toString()
      if (!enough.test(text)) return
      resolve(text)
      socket.close()
    })
  })
}

test('18.1 a stopped guest has none', async ({ skip }) => {
  const { root } = target
  if (root === undefined) return skip('needs a root@pam ticket')
  expect((await root.post(`${guest}/termproxy`)).reason).toMatch(/^VM \d+ not running$/)
})

test('18.1 a ticket reads what the guest says, from its firmware on', async ({ skip }) => {
  const { root } = target
  if (root === undefined) return skip('needs a root@pam ticket')
  expect((await ended(target, await target.client.post(`${guest}/status/start`))).exitstatus).toBe('OK')
  const it = await proxy(root)
  const text = await talk(root, it, `${it.user}:${it.ticket}\n`, /No bootable device/)
  expect(text).toMatch(/^OK/)
  expect(text).toContain('SeaBIOS')
  expect((await ended(target, it.upid)).exitstatus).toBe('OK')
})

test('18.1 nobody else gets in', async ({ skip }) => {
  const { root, client } = target
  if (root === undefined) return skip('needs a root@pam ticket')
  expect((await client.post(`${guest}/termproxy`)).status).toBe(403)
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
