import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { knock, reachSsh } from '../../src/ssh/knock.ts'
import { logIn } from '../../src/ssh/login.ts'
import { freePort } from './sshd.ts'

const signal = new AbortController().signal
let server: Server | undefined
const sockets = new Set<Socket>()

const listen = async (onSocket: (socket: Socket) => void): Promise<number> => {
  server = createServer((socket) => {
    sockets.add(socket)
    onSocket(socket.on('error', () => {}))
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server?.once('listening', resolve))
  return (server.address() as { port: number }).port
}
afterEach(() => {
  for (const socket of sockets) socket.destroy()
  sockets.clear()
  server?.close()
  server = undefined
})

describe('who answers at a port', () => {
  test('nobody', async () => {
    const port = await freePort()
    expect(await reachSsh('127.0.0.1', port, signal)).toEqual({
      connected: false,
      why: `127.0.0.1 is up, but port ${port} refuses connections`,
    })
  })

  test('an SSH server, its banner cut in two and after another line', async () => {
    const port = await listen((socket) => {
      socket.write('welcome\r\nSSH-2.')
      setTimeout(() => socket.write('0-OpenSSH_9.2p1 Debian\r\n'), 50)
    })
    expect(await reachSsh('127.0.0.1', port, signal)).toEqual({
      connected: true,
      banner: 'SSH-2.0-OpenSSH_9.2p1 Debian',
    })
  })

  test('the banner stays readable for who logs in', async () => {
    const port = await listen((socket) => socket.write('SSH-2.0-x\r\n'))
    const socket = await knock('127.0.0.1', port, signal)
    expect(String(socket.read())).toBe('SSH-2.0-x\r\n')
    socket.destroy()
  })

  test('something else', async () => {
    const port = await listen((socket) => socket.write('x'.repeat(10_000)))
    const reach = await reachSsh('127.0.0.1', port, signal)
    expect(reach.connected).toBe(true)
    expect(reach.why).toMatch(/answers, but not with SSH/)
  })

  test('somebody who hangs up', async () => {
    const port = await listen((socket) => socket.end())
    expect(await reachSsh('127.0.0.1', port, signal)).toMatchObject({
      connected: true,
      why: expect.stringMatching(/closes the connection before/),
    })
  })

  test('an abort is the signal’s reason', async () => {
    const reason = new Error('interrupted')
    const port = await listen(() => {})
    const controller = new AbortController()
    setTimeout(() => controller.abort(reason), 50)
    await expect(reachSsh('127.0.0.1', port, controller.signal)).rejects.toBe(reason)
  })
})

describe('trying to log in', () => {
  test('a connection that is not wanted is closed, and the next one taken', async () => {
    const log: string[] = []
    const dial = async () => {
      const n = log.filter((line) => line.startsWith('dial')).length
      log.push(`dial ${n}`)
      return {
        exec: () => Promise.reject(new Error('not here')),
        closed: new Promise<Error>(() => {}),
        end: async () => {
          log.push(`end ${n}`)
        },
      }
    }
    const reasons: string[] = []
    await logIn(dial, {
      at: 'here',
      signal,
      onAttempt: (_, reason) => reasons.push(reason),
      accept: async () => {
        if (log.length === 1) throw new Error('it hung')
        return log.length > 3
      },
    })
    expect(log).toEqual(['dial 0', 'end 0', 'dial 1', 'end 1', 'dial 2'])
    expect(reasons).toEqual(['it hung', 'the guest has not gone down'])
  })
})
