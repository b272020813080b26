import type { IncomingMessage } from 'node:http'
import { TransportError } from './multipart.ts'
import type { RawValues } from './parameters.ts'

/** Parameters out of a query or a body that is no upload. */

/** bytes of such a body; Proxmox's own limit */
const BODY_LIMIT = 512 * 1024

export function fromSearch(search: URLSearchParams): RawValues {
  const raw: Record<string, string | string[]> = {}
  for (const name of new Set(search.keys())) {
    const all = search.getAll(name)
    raw[name] = all.length > 1 ? all : (all[0] as string)
  }
  return raw
}

export async function readBody(request: IncomingMessage, method: string): Promise<RawValues> {
  const length = Number(request.headers['content-length'] ?? 0)
  const writes = method === 'POST' || method === 'PUT'
  if (length > 0 && !writes) throw new TransportError(501, `Unexpected content for method '${method}'`)
  const contentType = request.headers['content-type']
  const kind = contentType?.split(';', 1)[0]?.trim().toLowerCase()
  const form = kind === undefined || kind === 'application/x-www-form-urlencoded'
  if (length > 0 && !form && kind !== 'application/json') {
    throw new TransportError(506, `upload 'Content-Type '${contentType}' not implemented`)
  }
  if (length > BODY_LIMIT) throw new TransportError(501, 'for data too large')
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const text = Buffer.concat(chunks).toString('utf8')
  if (!writes) return {}
  if (form) return fromSearch(new URLSearchParams(text))
  if (kind !== 'application/json') return {}
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    throw new TransportError(
      500,
      `malformed JSON string, neither tag, array, object, number, string or atom, at character offset ${text.length} (before "(end of string)")`,
    )
  }
  if (parsed === null || typeof parsed !== 'object' || Array.isArray(parsed)) {
    throw new TransportError(500, 'parameters must be a JSON object')
  }
  return parsed as RawValues
}
