import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:net'
import { expect, test } from 'vitest'
import { clientsOf } from '../../src/lab/clients.ts'

test.each(['127.0.0.1', '::'])(
  'who is connected to a port of %s is known by its process, once',
  async (host) => {
    const server = createServer((socket) => void socket.on('error', () => {}))
    await new Promise<void>((resolve) => server.listen(0, host, resolve))
    const { port } = server.address() as AddressInfo
    try {
      expect(await clientsOf(port)).toEqual([])
      const sockets = [connect(port, '127.0.0.1'), connect(port, '127.0.0.1')]
      await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('connect', resolve))))
      const [client, ...others] = await clientsOf(port)
      expect(others).toEqual([])
      expect(client).toMatchObject({ pid: process.pid, name: expect.stringMatching(/\w/) })
      for (const socket of sockets) socket.destroy()
    } finally {
      await new Promise((resolve) => server.close(resolve))
    }
  },
)
