import { afterAll, beforeAll, expect, test } from 'vitest'
import { ownFile, ownPool } from './own.ts'
import { ended, NO_ROOT, startTarget, type Target } from './target.ts'

/** Clause 17 of pve.md: what curl, proxmoxer and Ansible send. */

let target: Target
let guests: string

beforeAll(async () => {
  target = await startTarget()
  guests = `/nodes/${target.node}/qemu`
})
afterAll(() => target?.stop())

function raw(line: string, headers: string[], body = ''): Promise<string> {
  const auth = Object.entries(target.client.headers()).map(([name, value]) => `${name}: ${value}`)
  return target.client.raw(
    [`${line} HTTP/1.1`, 'Host: lab', ...auth, ...headers, 'Connection: close', '', body].join('\r\n'),
  )
}

test('17.1 `curl -X POST` with all parameters in the query: no body, no length', async () => {
  const vmid = await target.vmid()
  const answer = await raw(`POST /api2/json${guests}?vmid=${vmid}&name=bare&pool=${ownPool(target.own)}`, [])
  expect(answer).toMatch(/^HTTP\/1.1 200 OK\r\n/)
  const { data } = JSON.parse(answer.split('\r\n\r\n')[1] as string)
  expect((await ended(target, data)).exitstatus).toBe('OK')
  // A form content type without a body is what Python's requests sends.
  const start = await raw(`POST /api2/json${guests}/${vmid}/status/stop`, [
    'Content-Length: 0',
    'Content-Type: application/x-www-form-urlencoded',
  ])
  expect(start).toMatch(/^HTTP\/1.1 200 OK\r\n/)
  expect((await ended(target, await target.client.delete(`${guests}/${vmid}`))).exitstatus).toBe('OK')
})

test('17.2 the ticket in the cookie, as it is or percent-encoded', async ({ skip }) => {
  const ticket = target.root?.credentials.ticket
  if (ticket === undefined) return skip(NO_ROOT)
  for (const cookie of [ticket, encodeURIComponent(ticket)]) {
    const nobody = target.client.as({})
    const reply = await nobody.send('GET', '/nodes', undefined, { cookie: `a=b; PVEAuthCookie=${cookie}` })
    expect(reply.status).toBe(200)
    await nobody.close()
  }
})

test('17.3 an upload as curl -F sends it, with a content type for the file', async () => {
  const name = ownFile(target.own, 'curl.iso')
  const body = [
    '--------------------------0123456789abcdef',
    'Content-Disposition: form-data; name="content"',
    '',
    'iso',
    '--------------------------0123456789abcdef',
    `Content-Disposition: form-data; name="filename"; filename="${name}"`,
    'Content-Type: application/octet-stream',
    '',
    'data',
    '--------------------------0123456789abcdef--',
    '',
  ].join('\r\n')
  const path = `/nodes/${target.node}/storage/${target.files}`
  const reply = await target.client.send('POST', `${path}/upload`, body, {
    'content-type': 'multipart/form-data; boundary=------------------------0123456789abcdef',
  })
  expect((await ended(target, reply)).exitstatus).toBe('OK')
  const volume = `${path}/content/${target.files}:iso/${name}`
  expect((await target.client.get(volume)).body.data).toMatchObject({ size: 512, format: 'raw' })
  expect((await target.client.delete(volume, { delay: 5 })).status).toBe(200)
})

test('17.4 extjs tells success and failure in the body', async () => {
  const ask = async (path: string) => {
    const answer = await raw(`GET /api2/extjs${path}`, [])
    expect(answer).toMatch(/^HTTP\/1.1 200 OK\r\n/)
    return JSON.parse(answer.split('\r\n\r\n')[1] as string)
  }
  expect(await ask('/version')).toMatchObject({ success: 1, data: { release: expect.any(String) } })
  expect(await ask(`${guests}/${await target.vmid()}/config`)).toMatchObject({
    success: 0,
    status: 500,
    data: null,
  })
})

test('17.5 a list as repeated fields', async () => {
  const vmid = await target.vmid()
  await ended(target, await target.client.post(guests, { vmid, cores: 1, name: 'listed' }))
  const form = { 'content-type': 'application/x-www-form-urlencoded' }
  const reply = await target.client.send('PUT', `${guests}/${vmid}/config`, 'delete=cores&delete=name', form)
  expect(reply.status).toBe(200)
  const config = (await target.client.get(`${guests}/${vmid}/config`)).body.data as object
  expect(config).not.toHaveProperty('cores')
  expect(config).not.toHaveProperty('name')
  await ended(target, await target.client.delete(`${guests}/${vmid}`))
})
