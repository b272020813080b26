import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { Client, Reply } from './client.ts'
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

/** after which a guest that should speak is taken for silent; as long as it speaks, it may take its time */
const SILENCE_SECONDS = 15

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

  /** Each test starts the guest itself where it does not run: others may be left out. */
  async function running(): Promise<void> {
    const { body } = await target.client.get(`${guest}/status/current`)
    const { status } = body.data as { status: string }
    if (status === 'running') return
    expect((await ended(target, await target.client.post(`${guest}/status/start`))).exitstatus).toBe('OK')
  }

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
   * @param onSilence called at the first text, and whenever nothing more has come for a while
   */
  function talk(
    client: Client,
    { port, ticket }: Proxy,
    login: string,
    enough: RegExp,
    onSilence: () => void = () => undefined,
  ): Promise<string> {
    const query = new URLSearchParams({ port: String(port), vncticket: ticket })
    const url = `${client.base.replace(/^http/, 'ws')}/api2/json${guest}/vncwebsocket?${query}`
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url, ['binary'], { ...pinned(target), headers: client.headers() })
      let text = ''
      let silence: NodeJS.Timeout | undefined
      socket.on('unexpected-response', (_request, { statusCode, statusMessage }) => {
        resolve(`${statusCode} ${statusMessage}`)
        socket.terminate()
      })
      socket.on('error', reject)
      socket.on('open', () => socket.send(login))
      socket.on('close', () => {
        clearInterval(silence)
        resolve('closed')
      })
      socket.on('message', (data: Buffer) => {
        if (silence === undefined) onSilence()
        clearInterval(silence)
        silence = setInterval(onSilence, SILENCE_SECONDS * 1000)
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
    await running()
    const it = await proxy(root)
    // What was said before one came is the lab's alone to tell, and what was said just when one came may be lost: the lab's
    // firmware says it once.
    const resets: Promise<Reply>[] = []
    const again = () => void resets.push(target.client.post(`${guest}/status/reset`))
    const text = await talk(root, it, `${it.user}:${it.ticket}\n`, /SeaBIOS[\s\S]*No bootable device/, again)
    expect(text).toMatch(/^OK/)
    for (const reset of await Promise.all(resets)) expect((await ended(target, reset)).exitstatus).toBe('OK')
    expect((await ended(target, it.upid)).exitstatus).toBe('OK')
  })

  test('18.1 an API token gets a ticket, and in with it', async ({ skip }) => {
    const { client } = target
    if (!target.consoles) return skip(NO_CONSOLES)
    await running()
    const it = await proxy(client)
    expect(it.user).toMatch(/!/)
    expect(await talk(client, it, `${it.user}:${it.ticket}\n`, /./)).toMatch(/^OK/)
  })

  test('18.1 whose ticket it is can be asked by anybody, and only for its guest and its port', async ({
    skip,
  }) => {
    const { client } = target
    if (!target.consoles) return skip(NO_CONSOLES)
    await running()
    const { user: authid, ticket: vncticket, port } = await proxy(client)
    const asked = { authid, vncticket, port, path: guest.replace(/.*\//, '/vms/'), privs: 'VM.Console' }
    const ask = (more: Partial<typeof asked>) =>
      client.as({}).post('/access/vncticket', { ...asked, ...more })
    expect(await ask({})).toMatchObject({ status: 200, body: { data: null } })
    for (const wrong of [{ port: port + 1 }, { path: '/vms/1' }, { authid: 'root@pam' }])
      expect(await ask(wrong)).toMatchObject({ status: 401, reason: 'authentication failure' })
  })

  test('18.1 that it can be asked shows in what is missing', async () => {
    // What imagebuild asks to learn whether tokens are let in.
    const { status, body } = await target.client.post('/access/vncticket', { port: 0 })
    expect(status).toBe(400)
    expect(Object.keys(body.errors ?? {}).sort()).toEqual(['authid', 'path', 'privs', 'vncticket'])
  })

  test('18.1 nobody else gets in', async ({ skip }) => {
    const { root, client } = target
    if (root === undefined) return skip(NO_ROOT)
    if (!target.consoles) return skip(NO_CONSOLES)
    await running()
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
