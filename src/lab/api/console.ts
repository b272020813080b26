import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Caller } from './access.ts'
import { ApiError, failure, messageOf, permissionError, unauthorized } from './errors.ts'
import { splitList } from './formats.ts'
import { KINDS } from './guests/kinds.ts'
import { type GuestType, wordFor } from './guests/store.ts'
import { formatted, integer, oneOf, optional, string } from './parameters.ts'
import { type Call, type Lab, on, post, type Route } from './router.ts'

/**
 * A machine's serial console, or a container's: `termproxy` gives a port and a ticket, the web socket at `vncwebsocket` takes both. Then the
 * client says `user:ticket\n`, gets `OK`, sends `0:<bytes>:<text>` (input), `1:<columns>:<rows>:` (size) or `2`
 * (alive), and receives the guest's output as it is.
 */

/** seconds in which a ticket must be used, as Proxmox has it */
const TICKET_SECONDS = 40
/** seconds that an open socket has to say its ticket, as Proxmox has it */
const LOGIN_SECONDS = 10
/** bytes of what the guest has said before that a console begins with */
const REPLAY_BYTES = 64 * 1024
const FIRST_PORT = 5900
const LAST_PORT = 5999

interface Session {
  vmid: number
  user: string
  opened: (socket: WebSocket) => void
}

export class Consoles {
  readonly #sessions = new Map<number, Session>()
  readonly #server = new WebSocketServer({
    noServer: true,
    handleProtocols: (wanted) => [...wanted][0] ?? false,
  })

  /** Waits on a port of its own until the client has come and gone; rejects when none came. */
  open(vmid: number, user: string, signal: AbortSignal): { port: number; done: Promise<WebSocket> } {
    let port = FIRST_PORT
    while (this.#sessions.has(port)) port++
    if (port > LAST_PORT) throw failure('unable to find free vnc port')
    const done = new Promise<WebSocket>((resolve, reject) => {
      const timer = setTimeout(() => reject(failure('connection timed out')), TICKET_SECONDS * 1000)
      const stop = () => reject(signal.reason)
      signal.addEventListener('abort', stop, { once: true })
      const opened = (socket: WebSocket) => {
        clearTimeout(timer)
        // Clients log in with their first bytes: these wait until somebody listens.
        socket.pause()
        resolve(socket)
      }
      this.#sessions.set(port, { vmid, user, opened })
    }).finally(() => this.#sessions.delete(port))
    done.catch(() => undefined)
    return { port, done }
  }

  /** The web socket's handshake, with the same checks as any call. */
  upgrade(lab: Lab, request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => undefined)
    try {
      const session = this.#admit(lab, request)
      this.#server.handleUpgrade(request, socket, head, (client) => session.opened(client))
    } catch (error) {
      const status = error instanceof ApiError ? error.status : 500
      socket.end(`HTTP/1.1 ${status} ${messageOf(error)}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    }
  }

  #admit(lab: Lab, request: IncomingMessage): Session {
    const url = new URL(request.url ?? '/', 'https://lab')
    const match = /^\/api2\/json\/nodes\/([^/]+)\/(?:qemu|lxc)\/(\d+)\/vncwebsocket$/.exec(url.pathname)
    const { authorization, cookie } = request.headers
    const caller: Caller = lab.access.identify({
      method: 'GET',
      ...(authorization !== undefined && { authorization }),
      ...(cookie !== undefined && { cookie }),
    })
    const node = lab.nodes.get(match?.[1] ?? '')
    if (!match || !node?.guests.isHere(Number(match[2]))) throw permissionError()
    lab.access.require(caller, `/vms/${match[2]}`, ['VM.Console'])
    const port = Number(url.searchParams.get('port'))
    const session = this.#sessions.get(port)
    const user = verify(lab, url.searchParams.get('vncticket') ?? '', `/vms/${match[2]}`, port)
    if (!session || session.vmid !== Number(match[2]) || user !== caller.authid || session.user !== user) {
      throw unauthorized('permission denied - invalid PVEVNC ticket')
    }
    return session
  }

  close(): void {
    for (const client of this.#server.clients) client.terminate()
    this.#server.close()
  }
}

/** A console's ticket is for one guest, at one port. */
const scope = (path: string, port: number | undefined) => `${path}:${port ?? ''}`

/** Whose ticket it is; undefined where it does not hold. */
const verify = ({ access }: Lab, ticket: string, path: string, port: number | undefined) =>
  access.verifyTicket('PVEVNC', ticket, TICKET_SECONDS, scope(path, port))

const hasAll = (granted: object, privileges: readonly string[]) => privileges.every((name) => name in granted)

/** What Proxmox's termproxy asks, which is a process of its own there: whether that user may have that console. */
function verifyTicket(call: Call): null {
  const { lab } = call
  const [authid, path] = [call.need('authid'), call.need('path')]
  const holds = verify(lab, call.need('vncticket'), path, call.number('port')) === authid
  const privileges = splitList(call.need('privs'))
  if (!holds || privileges.length === 0 || !hasAll(lab.access.permissions(authid, path), privileges))
    throw unauthorized('authentication failure')
  return null
}

async function termproxy(call: Call): Promise<unknown> {
  const { lab, vmid, guest, type } = call
  if (type === 'qemu') {
    const serial = call.text('serial') ?? (/^serial\d/.exec(String(guest.config.vga ?? ''))?.[0] || 'serial0')
    if (guest.config[serial] !== 'socket') throw failure('unable to find a serial interface')
  }
  if (!(await KINDS[type].isRunning(lab, vmid))) throw failure(`${wordFor(type)} ${vmid} not running`)
  const { authid: user } = call.caller
  const controller = new AbortController()
  const { port, done } = lab.consoles.open(vmid, user, controller.signal)
  const ticket = lab.access.ticket('PVEVNC', user, scope(`/vms/${vmid}`, port))
  const upid = call.task('vncproxy', vmid, async ({ signal }) => {
    signal.addEventListener('abort', () => controller.abort(signal.reason), { once: true })
    await carry(lab, type, vmid, await done, `${user}:${ticket}`, signal)
  })
  return { user, ticket, port, upid }
}

/**
 * Joins the web socket with the guest's console until either ends.
 * @param password what the client must say first
 */
async function carry(
  lab: Lab,
  type: GuestType,
  vmid: number,
  socket: WebSocket,
  password: string,
  signal: AbortSignal,
): Promise<void> {
  const guests = type === 'lxc' ? lab.containers : lab.machines
  const console = await guests.console(vmid).catch((error) => {
    socket.terminate()
    throw error
  })
  // A boot may have failed before anybody could listen. Data that arrives meanwhile waits in the paused socket.
  const before = await guests.consoleLog(vmid, REPLAY_BYTES)
  const ended = new Promise<void>((resolve) => {
    socket.once('close', resolve)
    socket.once('error', () => resolve())
    console.once('close', resolve)
    console.once('error', () => resolve())
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
  let received = Buffer.alloc(0)
  let admitted = false
  const late = setTimeout(() => socket.close(), LOGIN_SECONDS * 1000)
  socket.on('message', (data: Buffer) => {
    received = Buffer.concat([received, data])
    if (!admitted) {
      const end = received.indexOf('\n')
      if (end === -1) return
      if (received.toString('utf8', 0, end) !== password) {
        socket.close()
        return
      }
      received = received.subarray(end + 1)
      admitted = true
      clearTimeout(late)
      socket.send(Buffer.from('OK'))
      if (before !== '') socket.send(Buffer.from(before))
      console.on('data', (chunk: Buffer) => {
        // A client that reads slowly holds the console back, not our memory.
        socket.send(chunk, () => console.resume())
        if (socket.bufferedAmount > 1 << 20) console.pause()
      })
    }
    const { input, rest } = readMessages(received)
    received = Buffer.from(rest)
    if (input.length > 0) console.write(input)
  })
  socket.resume()
  await ended
  clearTimeout(late)
  console.destroy()
  socket.close()
  if (!admitted) throw failure('connection closed before the ticket was given')
}

/** What the client typed, out of its messages; the rest is the beginning of one that is not all here yet. */
export function readMessages(data: Buffer): { input: Buffer; rest: Buffer } {
  const input: Buffer[] = []
  let rest = data
  while (rest.length > 0) {
    const kind = String.fromCharCode(rest[0] as number)
    if (kind === '2') rest = rest.subarray(1)
    else if (kind === '1') {
      const size = /^1:\d+:\d+:/.exec(rest.toString('latin1', 0, 32))?.[0]
      if (size === undefined) break
      rest = rest.subarray(size.length)
    } else if (kind === '0') {
      const head = /^0:(\d+):/.exec(rest.toString('latin1', 0, 32))
      const length = Number(head?.[1])
      if (!head || rest.length < head[0].length + length) break
      input.push(rest.subarray(head[0].length, head[0].length + length))
      rest = rest.subarray(head[0].length + length)
    } else rest = rest.subarray(1)
  }
  return { input: Buffer.concat(input), rest }
}

export const CONSOLE_ROUTES: readonly Route[] = [
  post(
    '/nodes/{node}/qemu/{vmid}/termproxy',
    on('/vms/{vmid}', 'VM.Console'),
    { serial: optional(oneOf('serial0', 'serial1', 'serial2', 'serial3')) },
    termproxy,
  ),
  post('/nodes/{node}/lxc/{vmid}/termproxy', on('/vms/{vmid}', 'VM.Console'), {}, termproxy),
  post(
    '/access/vncticket',
    'world',
    {
      authid: string({ maxLength: 64 }),
      path: string({ maxLength: 64 }),
      port: optional(integer()),
      privs: formatted('privilege-list', { maxLength: 64 }),
      vncticket: string(),
    },
    verifyTicket,
  ),
]
