import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Received {
  method: string
  url: URL
  headers: IncomingHttpHeaders
  body: string
}

export interface Reply {
  status: number
  headers?: Record<string, string>
  body?: string
}

/** How a server takes what it gets: an answer; or none, and the connection is reset or stays silent. */
type Taken = Reply | 'reset' | 'silent'
export type Contract = (received: Received, nth: number) => Taken | Promise<Taken>

/** A server on loopback that keeps to a contract, and remembers what it got. */
export async function serve(contract: Contract) {
  const received: Received[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const { method = '', headers } = request
    const one = {
      method,
      headers,
      url: new URL(request.url ?? '', 'http://server'),
      body: Buffer.concat(chunks).toString(),
    }
    received.push(one)
    const reply = await contract(one, received.length)
    if (reply === 'reset') request.socket.destroy()
    else if (reply !== 'silent') response.writeHead(reply.status, reply.headers).end(reply.body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

export function json(status: number, value: unknown): Reply {
  return { status, headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) }
}
