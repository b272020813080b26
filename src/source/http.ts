import type { Dispatcher, EnvHttpProxyAgent } from 'undici'
import { ImagebuildError } from '../core/errors.ts'
import type { SourceContext } from './context.ts'
import { isPrivateHost, judgingLookup } from './private-address.ts'

/** Mirrors redirect once or twice; more is a loop. */
const MAX_REDIRECTS = 5
const STALL_SECONDS = 60
/** A directory listing or a checksum list; Debian's largest has some 60 kB. */
const MAX_TEXT_BYTES = 4 * 1024 * 1024

/** What the functions here need of their caller. */
type HttpContext = Pick<SourceContext, 'signal' | 'stallSeconds' | 'privateHosts'>

/** An answer with status 200, 206, 416, or 304 if it was asked for; whoever opens it disposes of it. */
export interface OpenResponse extends AsyncDisposable {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: AsyncIterable<Buffer>
}

/** The server answered, but not with the file. */
export class StatusError extends ImagebuildError {
  readonly status: number

  constructor(url: string, status: number) {
    super({
      code: 'unreachable',
      what: `${url} cannot be downloaded`,
      why: `the server answers ${status}${status === 404 ? ': there is no such file' : ''}`,
      next:
        status === 404
          ? 'check the address; dated releases are removed after some months'
          : 'try again later',
    })
    this.status = status
  }
}

/** What may succeed when it is tried again: the connection broke or went silent. */
export class TransferError extends ImagebuildError {}

/**
 * GET with redirects followed by hand, so that nobody leads an https download to http, nor (with `privateHosts`) any
 * download into this machine or its networks. Proxies are taken from `http_proxy`, `https_proxy` and `no_proxy`; what a
 * name means is then the proxy's to know, and only addresses are judged.
 * @throws TransferError if the connection fails; StatusError for any status but those of OpenResponse (both
 *   are `unreachable`); ImagebuildError `build_failed` for a redirect that is refused
 */
export async function openUrl(
  url: string,
  headers: Record<string, string>,
  ctx: HttpContext,
): Promise<OpenResponse> {
  const stall = (ctx.stallSeconds ?? STALL_SECONDS) * 1000
  // Who only wants to know which releases there are downloads nothing.
  const { EnvHttpProxyAgent } = await import('undici')
  let at = new URL(url)
  const refusal = (address: string) =>
    mayBePrivate(at, url, ctx) ? undefined : leadsInside(url, at, address)
  const agent = new EnvHttpProxyAgent({
    headersTimeout: stall,
    bodyTimeout: stall,
    connect: { timeout: stall, lookup: judgingLookup(refusal) },
  })
  try {
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      if (isPrivateHost(at.hostname)) {
        const refused = refusal(at.hostname)
        if (refused) throw refused
      }
      const response = await agent.request({
        origin: at.origin,
        path: at.pathname + at.search,
        method: 'GET',
        // Checksums are over the bytes as they are stored.
        headers: { 'accept-encoding': 'identity', 'user-agent': 'imagebuild', ...headers },
        signal: ctx.signal,
      })
      const location = redirectTarget(response, at)
      if (location === undefined) return answered(response, at, agent, headers, ctx)
      await response.body.dump()
      at = location
    }
    throw new ImagebuildError({
      code: 'unreachable',
      what: `${url} cannot be downloaded`,
      why: `it redirects more than ${MAX_REDIRECTS} times`,
    })
  } catch (error) {
    void agent.destroy().catch(() => {})
    throw transferError(error, url, ctx.signal)
  }
}

function redirectTarget(response: Dispatcher.ResponseData, from: URL): URL | undefined {
  if (![301, 302, 303, 307, 308].includes(response.statusCode)) return undefined
  const target = new URL(String(response.headers.location ?? ''), from)
  if (target.protocol === 'https:' || (target.protocol === 'http:' && from.protocol === 'http:'))
    return target
  throw new ImagebuildError({
    code: 'build_failed',
    what: `${from.href} leads away from https and is not followed`,
    why: `the server redirects to ${target.href}`,
    next: 'use an address that stays on https, or name the http address itself together with a checksum',
  })
}

/** The address that was asked for was chosen by whoever wrote it down; where it redirects to, its server chose. */
function mayBePrivate(at: URL, asked: string, { privateHosts }: HttpContext): boolean {
  // A URL does not tell its scheme's usual port, a person may.
  const withPort = at.port === '' ? `${at.host}:${at.protocol === 'https:' ? 443 : 80}` : at.host
  return (
    privateHosts === undefined ||
    at.origin === new URL(asked).origin ||
    [at.host, withPort].some((host) => privateHosts.includes(host))
  )
}

function leadsInside(url: string, at: URL, address: string): ImagebuildError {
  return new ImagebuildError({
    code: 'build_failed',
    what: `${url} leads into a private network and is not followed`,
    why: `the server redirects to ${at.href}${address === at.hostname ? '' : `, which is ${address}`}`,
    next: `use another mirror; if it is meant to, name ${at.host} in the target`,
  })
}

function answered(
  response: Dispatcher.ResponseData,
  at: URL,
  agent: EnvHttpProxyAgent,
  asked: Record<string, string>,
  ctx: Pick<SourceContext, 'signal'>,
): OpenResponse {
  const { statusCode: status } = response
  const isConditional = 'if-none-match' in asked || 'if-modified-since' in asked
  if (![200, 206, 416, ...(isConditional ? [304] : [])].includes(status)) {
    throw new StatusError(at.href, status)
  }
  return {
    status,
    headers: response.headers,
    body: (async function* () {
      try {
        for await (const chunk of response.body) yield chunk as Buffer
      } catch (error) {
        throw transferError(error, at.href, ctx.signal)
      }
    })(),
    async [Symbol.asyncDispose]() {
      // A body that was read to its end leaves nothing to abort; any other is cut off.
      response.body.on('error', () => {}).destroy()
      await agent.destroy().catch(() => {})
    },
  }
}

function transferError(error: unknown, url: string, signal: AbortSignal): unknown {
  signal.throwIfAborted()
  if (error instanceof ImagebuildError) return error
  const { code, message } = error as { code?: string; message?: string }
  const stalled = code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT'
  return new TransferError({
    code: 'unreachable',
    what: `${url} cannot be downloaded`,
    why: stalled ? 'the server sent nothing for too long' : message || code || String(error),
    next: 'check the network (and http_proxy/https_proxy), or use a mirror',
    cause: error,
  })
}

/** A small file as bytes. Throws as `openUrl` does. */
export async function getBytes(url: string, ctx: HttpContext, maxBytes = MAX_TEXT_BYTES): Promise<Buffer> {
  await using response = await openUrl(url, {}, ctx)
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response.body) {
    size += chunk.length
    if (size > maxBytes) {
      throw new ImagebuildError({
        code: 'build_failed',
        what: `${url} is not what it should be`,
        why: `it is larger than ${maxBytes} bytes`,
      })
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
