import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ownUser } from './own.ts'
import { NO_ROOT, startTarget, type Target } from './target.ts'

/** Clauses 1 to 6 of pve.md: HTTP itself. */

let target: Target
beforeAll(async () => {
  target = await startTarget()
})
afterAll(() => target?.stop())

function request(line: string, headers: string[], body = ''): string {
  const auth = Object.entries(target.client.headers()).map(([name, value]) => `${name}: ${value}`)
  return [`${line} HTTP/1.1`, 'Host: lab', ...auth, ...headers, 'Connection: close', '', body].join('\r\n')
}

describe('bodies', () => {
  const path = '/api2/json/cluster/nextid'

  test('1.1 chunked is refused', async () => {
    const answer = await target.client.raw(
      request(`POST ${path}`, ['Transfer-Encoding: chunked'], '0\r\n\r\n'),
    )
    expect(answer).toMatch(/^HTTP\/1.1 501 chunked transfer encoding not supported\r\n/)
    expect(answer).toMatch(/\r\n\r\nchunked transfer encoding not supported$/)
    expect(answer).not.toMatch(/content-type/i)
  })

  test('1.2 only forms and JSON', async () => {
    const answer = await target.client.raw(
      request(`PUT ${path}`, ['Content-Type: text/plain', 'Content-Length: 3'], 'a=b'),
    )
    expect(answer).toMatch(/^HTTP\/1.1 506 upload 'Content-Type 'text\/plain' not implemented\r\n/)
  })

  test('1.2 at most 512 KiB', async () => {
    const headers = ['Content-Type: application/x-www-form-urlencoded', 'Content-Length: 600000']
    expect(await target.client.raw(request(`PUT ${path}`, headers))).toMatch(
      /^HTTP\/1.1 501 for data too large\r\n/,
    )
  })

  test('1.2 none for DELETE', async () => {
    const headers = ['Content-Type: application/x-www-form-urlencoded', 'Content-Length: 7']
    const answer = await target.client.raw(request(`DELETE ${path}`, headers, 'purge=1'))
    expect(answer).toMatch(/^HTTP\/1.1 501 Unexpected content for method 'DELETE'\r\n/)
  })

  test('1.2 JSON that is empty is malformed', async () => {
    const headers = ['Content-Type: application/json', 'Content-Length: 0']
    const answer = await target.client.raw(request(`PUT ${path}`, headers))
    expect(answer).toMatch(/^HTTP\/1.1 500 malformed JSON string/)
  })

  test('1.1 100-continue is never answered', async () => {
    const answer = await target.client.raw(request('GET /api2/json/version', ['Expect: 100-continue']))
    expect(answer).toMatch(/^HTTP\/1.1 200 /)
  })

  test('1.3 an answer is JSON with a length', async () => {
    const answer = await target.client.raw(request('GET /api2/json/version', []))
    expect(answer).toMatch(/Content-Type: application\/json;charset=UTF-8\r\n/i)
    expect(answer).toMatch(/Content-Length: \d+\r\n/i)
  })
})

/** Proxmox makes whom it refuses wait three seconds: all of them wait at the same time. */
describe('refusals', () => {
  test.concurrent('2.1 no ticket: late, empty, with the text in the reason phrase', async () => {
    const reply = await target.client.as({}).get('/version')
    expect(reply).toMatchObject({ status: 401, reason: 'No ticket', text: '' })
    expect(reply.seconds).toBeGreaterThan(2.5)
  })

  test.concurrent('2.1 a wrong token', async () => {
    const reply = await target.client
      .as({ token: 'root@pam!x=00000000-0000-0000-0000-000000000000' })
      .get('/version')
    expect(reply).toMatchObject({ status: 401, reason: 'Authentication failed!', text: '' })
  })

  test.concurrent('2.2 a wrong password has a body', async () => {
    const reply = await target.client.as({}).post('/access/ticket', { username: 'nobody@pam', password: 'x' })
    expect(reply).toMatchObject({ status: 401, reason: 'authentication failure' })
    expect(reply.body).toEqual({ data: null, message: 'authentication failure\n' })
  })

  test.concurrent('2.3 a ticket without CSRF token may not write', async ({ skip }) => {
    const ticket = target.root?.credentials.ticket
    if (ticket === undefined) return skip(NO_ROOT)
    const reply = await target.client.as({ ticket }).post('/access/users', { userid: ownUser(target.own) })
    expect(reply).toMatchObject({ status: 401, reason: 'Permission denied - invalid csrf token', text: '' })
    expect((await target.client.as({ ticket }).get('/version')).status).toBe(200)
  })

  test.concurrent('2.4 a ticket is renewed by itself', async ({ skip }) => {
    const ticket = target.root?.credentials.ticket
    if (ticket === undefined) return skip(NO_ROOT)
    const reply = await target.client
      .as({})
      .post('/access/ticket', { username: 'root@pam', password: ticket })
    expect(reply.status).toBe(200)
    expect((reply.body.data as { ticket: string }).ticket).toMatch(/^PVE:root@pam:[0-9A-F]{8}::/)
  })

  test('3.1 unknown paths and methods', async () => {
    const reply = await target.client.get('/nonexistent')
    expect(reply).toMatchObject({ status: 501, reason: "Method 'GET /nonexistent' not implemented" })
    expect(reply.body).toEqual({ data: null, message: "Method 'GET /nonexistent' not implemented" })
    expect((await target.client.delete('/version')).status).toBe(501)
  })

  test('3.2 "no such VM" is a 500', async () => {
    const vmid = await target.vmid()
    const message = `Configuration file 'nodes/${target.node}/qemu-server/${vmid}.conf' does not exist`
    const reply = await target.client.get(`/nodes/${target.node}/qemu/${vmid}/config`)
    expect(reply).toMatchObject({ status: 500, reason: message })
    expect(reply.body).toEqual({ data: null, message: `${message}\n` })
  })

  test('3.3 parameters that are wrong are all named', async () => {
    const reply = await target.client.post(`/nodes/${target.node}/qemu`, {
      ...{ vmid: 99, memory: 'abc', cores: 0, bogus: 1, name: 'bad_name!', scsihw: 'nope' },
      ...{ net0: 'virtio,bridge', agent: 'maybe' },
    })
    expect(reply).toMatchObject({ status: 400, reason: 'Parameter verification failed.' })
    expect(reply.body.errors).toEqual({
      vmid: 'invalid format - value does not look like a valid VM ID\n',
      memory: "invalid format - format error\nmemory.current: type check ('integer') failed - got 'abc'\n",
      cores: 'value must have a minimum value of 1',
      bogus: 'property is not defined in schema and the schema does not allow additional properties',
      name: 'invalid format - value does not look like a valid DNS name\n',
      scsihw:
        "value 'nope' does not have a value in the enumeration 'lsi, lsi53c810, virtio-scsi-pci, virtio-scsi-single, megasas, pvscsi'",
      net0: 'invalid format - duplicate key in comma-separated list property: model\n',
      agent: "invalid format - format error\nagent.enabled: type check ('boolean') failed - got 'maybe'\n",
    })
  })
})
