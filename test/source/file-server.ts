import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Answer = (response: ServerResponse, request: IncomingMessage) => void

/** A web server on loopback whose answers a test decides; every request is remembered. */
export async function serveFiles(answers: Record<string, Answer | string | Buffer>) {
  const requests: { path: string; headers: IncomingMessage['headers'] }[] = []
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    requests.push({ path, headers: request.headers })
    const answer = answers[path]
    if (answer === undefined) response.writeHead(404).end()
    else if (typeof answer === 'function') answer(response, request)
    else response.end(answer)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** Answers as a real file server does: ranges, If-Range, ETag. `cut` bytes are sent before the connection breaks. */
export function rangedFile(
  content: Buffer,
  options: { etag?: string; cut?: () => number | undefined } = {},
): Answer {
  const etag = options.etag ?? '"1"'
  return (response, request) => {
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1]
    const from = range !== undefined && request.headers['if-range'] === etag ? Number(range) : undefined
    const body = content.subarray(from ?? 0)
    response.writeHead(from === undefined ? 200 : 206, {
      etag,
      'content-length': body.length,
      ...(from !== undefined && {
        'content-range': `bytes ${from}-${content.length - 1}/${content.length}`,
      }),
    })
    const cut = options.cut?.()
    if (cut === undefined) response.end(body)
    // What was written gets its time to arrive: a reset would throw it away.
    else response.write(body.subarray(0, cut), () => setTimeout(() => response.destroy(), 50))
  }
}
