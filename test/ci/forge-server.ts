import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'

export interface Asked {
  method: string
  url: URL
  /** of the URL, without percent-encoding */
  path: string
  // biome-ignore lint/suspicious/noExplicitAny: what a client sent is looked at by each test
  body: any
  headers: IncomingMessage['headers']
}

export interface Answered {
  status: number
  body?: unknown
  /** in place of a body of JSON */
  text?: string
  /** the connection breaks in the middle of the body */
  cut?: true
  headers?: Record<string, string>
}

/** An answer to give in place of the forge's own, so many times. */
export interface Fault {
  method: string
  path: RegExp
  times: number
  answer: Answered
  /** what happens at that moment, before the answer */
  meanwhile?: () => void
  /** the forge does what it was asked, and only its answer is lost */
  after?: boolean
}

/** Listens on loopback, remembers every request, and gives faults where a test wants some. */
export async function serveForge(
  answer: (asked: Asked) => Answered,
  certificate?: { key: string; cert: string },
) {
  const requests: Asked[] = []
  const faults: Fault[] = []
  const listener: RequestListener = async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString()
    const url = new URL(request.url ?? '', 'http://forge')
    const path = decodeURIComponent(url.pathname)
    const { method = '', headers } = request
    const asked = { method, url, path, headers, body: text === '' ? undefined : JSON.parse(text) }
    requests.push(asked)
    const fault = faults.find((one) => one.times > 0 && one.method === method && one.path.test(path))
    if (fault !== undefined) fault.times--
    fault?.meanwhile?.()
    const own = fault === undefined || fault.after ? answered(asked) : undefined
    const sent = fault?.answer ?? own ?? { status: 500 }
    response.writeHead(sent.status, { 'content-type': 'application/json', ...sent.headers })
    const written = sent.text ?? (sent.body === undefined ? '' : JSON.stringify(sent.body))
    if (sent.cut) response.write(written.slice(0, -1), () => response.destroy())
    else response.end(written)
  }
  const server = certificate ? createSecureServer(certificate, listener) : createServer(listener)
  const answered = (asked: Asked): Answered => {
    try {
      return answer(asked)
    } catch (error) {
      return { status: 500, body: { message: `the test's forge broke: ${(error as Error).stack}` } }
    }
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    faults,
    writes: () => requests.filter(({ method }) => method !== 'GET'),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
