import type { ClientRequest } from 'node:http'
import { type Agent, type RequestOptions, request } from 'node:https'
import { setImmediate } from 'node:timers/promises'

export interface Exchange {
  agent: Agent
  url: URL
  method: string
  headers: Record<string, string>
  /** Chunks need a `content-length` among the headers. Each is done with when the next one is asked for. */
  body?: string | AsyncIterable<Uint8Array>
  /** its reason is what an aborted exchange rejects with */
  signal: AbortSignal
}

export interface Answer {
  status: number
  statusText: string
  /** media type, empty where there is none */
  contentType: string
  text: string
  /** header `Date` */
  date: string | undefined
}

/** One request and its whole answer. Where that comes before the body is sent, the rest of the body stays unsent. */
export async function exchange({ url, body, signal, ...options }: Exchange): Promise<Answer> {
  // That the server has closed an idle connection meanwhile is read first, in the second turn at the latest where
  // that is only just happening: nothing is written to that one.
  for (let turn = 0; turn < 2 && Object.keys(options.agent.freeSockets).length > 0; turn++)
    await setImmediate()
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const asked = request(url, options satisfies RequestOptions)
  // A request that still waits for its connection would tell of its end only with that.
  const onAbort = () => {
    reject(signal.reason)
    asked.destroy()
  }
  signal.addEventListener('abort', onAbort, { once: true })
  asked.on('error', reject)
  asked.on('response', (response) => {
    const chunks: Buffer[] = []
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('error', reject)
    response.on('end', () => {
      resolve({
        status: response.statusCode ?? 0,
        // Node takes it for Latin-1; Proxmox writes UTF-8.
        statusText: Buffer.from(response.statusMessage ?? '', 'latin1').toString(),
        contentType: response.headers['content-type'] ?? '',
        text: Buffer.concat(chunks).toString(),
        date: response.headers.date,
      })
      if (!asked.writableFinished) asked.destroy()
    })
  })
  if (typeof body === 'object') {
    send(body, asked).catch((error) => {
      reject(error)
      asked.destroy()
    })
  } else asked.end(body)
  return promise.finally(() => signal.removeEventListener('abort', onAbort))
}

/** Ends early, without an error of its own, where the connection does. */
async function send(body: AsyncIterable<Uint8Array>, asked: ClientRequest): Promise<void> {
  for await (const chunk of body) {
    const { promise: taken, resolve } = Promise.withResolvers<void>()
    asked.once('close', resolve)
    asked.write(chunk, () => resolve())
    await taken
    asked.off('close', resolve)
    if (asked.destroyed) return
  }
  asked.end()
}
