import { type Contract, json, type Received, type Reply } from './server.ts'

/**
 * What each server takes, as its documentation says (and its source, where that says more). A request that breaks the
 * contract gets the status that the real server gives, so that a test sees it as a failure.
 */

function object(text: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}

const isText = (value: unknown) => typeof value === 'string'
const isTexts = (value: unknown) => Array.isArray(value) && value.every(isText)

/** ntfy: publish as JSON. @param login the `authorization` header that the topic needs */
export function ntfy(login?: string): Contract {
  const bad = (code: number, error: string) => json(400, { code, http: 400, error })
  const fields: Record<string, (value: unknown) => boolean> = {
    topic: isText,
    title: isText,
    message: isText,
    click: (value) => isText(value) && URL.canParse(String(value)),
    tags: isTexts,
    priority: (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 5,
    actions: (value) =>
      Array.isArray(value) &&
      value.length <= 3 &&
      value.every(
        ({ action, label, url }) => action === 'view' && isText(label) && label !== '' && URL.canParse(url),
      ),
  }
  return ({ method, url, headers, body }) => {
    if ((method !== 'POST' && method !== 'PUT') || url.pathname !== '/')
      return json(404, { code: 40401, http: 404, error: 'page not found' })
    // Twice the limit of a message, for the whole JSON.
    if (Buffer.byteLength(body) > 8192)
      return json(413, { code: 41303, http: 413, error: 'JSON body too large' })
    const sent = object(body)
    if (sent === undefined) return bad(40024, 'invalid request: request body must be valid JSON')
    for (const [key, value] of Object.entries(sent)) {
      if (!fields[key]?.(value)) return bad(40024, `invalid request: ${key}`)
    }
    if (!/^[-_A-Za-z0-9]{1,64}$/.test(String(sent.topic))) return bad(40009, 'invalid request: topic invalid')
    if (Buffer.byteLength(String(sent.message)) > 4096) return bad(40001, 'it would become an attachment')
    if (login !== undefined && headers.authorization !== login)
      return json(403, { code: 40301, http: 403, error: 'forbidden' })
    return json(200, { id: 'abc', event: 'message', topic: sent.topic, message: sent.message })
  }
}

/** The Apprise API: swagger.yaml. @param keys configurations that it has, with the tags of each */
export function apprise(
  keys: Record<string, readonly string[]>,
  deliver: (sent: Record<string, unknown>) => boolean | Promise<boolean> = () => true,
): Contract {
  return async ({ method, url, headers, body }) => {
    const path = /^\/notify(?:\/([\w-]{1,128}))?\/?$/.exec(url.pathname)
    if (path === null) return { status: 404, body: '<html>not found</html>' }
    if (method !== 'POST') return { status: 405 }
    const sent = headers['content-type'] === 'application/json' ? object(body) : undefined
    const known = ['urls', 'body', 'title', 'type', 'format', 'tag']
    const right =
      sent !== undefined &&
      isText(sent.body) &&
      sent.body !== '' &&
      Object.keys(sent).every((key) => known.includes(key)) &&
      ['info', 'success', 'warning', 'failure'].includes(String(sent.type ?? 'info')) &&
      ['text', 'markdown', 'html'].includes(String(sent.format ?? 'text')) &&
      (sent.urls === undefined || isTexts(sent.urls)) &&
      (sent.tag === undefined || isText(sent.tag))
    if (!right) return json(400, { error: 'Bad FORM Payload provided' })
    if (headers.accept !== 'application/json') return { status: 200, body: '<ul class="logs"></ul>' }
    const key = path[1]
    const addresses =
      key === undefined
        ? ((sent.urls as string[] | undefined) ?? []).filter((one) => /^\w+:\/\//.test(one))
        : keys[key]
    if (addresses === undefined || (key === undefined && addresses.length === 0)) return { status: 204 }
    const tag = sent.tag as string | undefined
    const reached = key === undefined || tag === undefined || addresses.includes(tag)
    if (!reached || !(await deliver(sent)))
      return json(424, { error: 'One or more notification could not be sent', details: [] })
    return json(200, { error: null, details: [] })
  }
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** The pinging API of healthchecks. @param check path of its ping URL: a UUID, or key and slug */
export function healthchecks(check: string): Contract {
  return ({ method, url }) => {
    if (!['HEAD', 'GET', 'POST'].includes(method)) return { status: 405 }
    const signal = url.pathname.startsWith(`/${check}`) ? url.pathname.slice(check.length + 1) : undefined
    if (signal === undefined) return { status: 404, body: 'not found' }
    const exit = /^\/(\d+)$/.exec(signal)?.[1]
    if (exit === undefined ? !['', '/start', '/fail', '/log'].includes(signal) : Number(exit) > 255) {
      return { status: 400, body: 'invalid url format' }
    }
    const run = url.searchParams.get('rid')
    if (run !== null && !UUID.test(run)) return { status: 400, body: 'invalid uuid format' }
    return { status: 200, headers: { 'ping-body-limit': '10000' }, body: 'OK' }
  }
}

/** Uptime Kuma's push monitors, as version 1 has them: it knows them by GET only (server/routers/api-router.js). */
export function uptimeKuma(token: string): Contract {
  return ({ method, url }): Reply => {
    if (method !== 'GET') return { status: 404, body: `<pre>Cannot ${method} ${url.pathname}</pre>` }
    if (url.pathname !== `/api/push/${token}`)
      return json(404, { ok: false, msg: 'Monitor not found or not active.' })
    const ping = url.searchParams.get('ping')
    if (ping !== null && !(Number(ping) >= 0 && Number(ping) <= 86_400_000))
      return json(400, { ok: false, msg: 'Invalid ping value' })
    // What is neither counts as down there; here it is a mistake.
    if (!['up', 'down'].includes(url.searchParams.get('status') ?? 'up'))
      return json(400, { ok: false, msg: 'status' })
    return json(200, { ok: true })
  }
}

export function sentIn({ body }: Received): Record<string, unknown> {
  return JSON.parse(body)
}
