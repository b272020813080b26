import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { poll } from '../../src/core/scope.ts'
import { ensureLab } from '../../src/lab/lab.ts'
import { bootstrapDisk } from '../../src/source/bootstrap.ts'
import { Client, type Fields, type Reply } from '../contract/client.ts'
import { LAB_DIR, SYSTEM } from './harness.ts'

/** Clause 18.2 of test/contract/pve.md, with one real guest: UEFI on q35, its cloud-init drive on the SCSI bus. */

const VMID = 9900
const NODE = '/nodes/lab'
const GUEST = `${NODE}/qemu/${VMID}`
const SOURCE = 'local:import/lab-test.qcow2'
const signal = AbortSignal.timeout(1_100_000)

let client: Client

async function ended(reply: Reply): Promise<string> {
  const upid = reply.body.data as string
  if (typeof upid !== 'string') throw new Error(`no UPID: ${reply.status} ${reply.reason} ${reply.text}`)
  return poll(
    async () => {
      const path = `${NODE}/tasks/${encodeURIComponent(upid)}/status`
      return ((await client.get(path)).body.data as { exitstatus?: string }).exitstatus
    },
    { signal, first: 100, max: 500 },
  )
}

interface Executed {
  exitcode: number
  'out-data'?: string
  'err-data'?: string
}

async function run(command: string[], input?: string): Promise<Executed> {
  const fields = { command, ...(input !== undefined && { 'input-data': input }) }
  const reply = await client.json('POST', `${GUEST}/agent/exec`, fields)
  expect(reply.status, reply.reason).toBe(200)
  const { pid } = reply.body.data as { pid: number }
  return poll(
    async () => {
      const status = (await client.get(`${GUEST}/agent/exec-status`, { pid })).body.data as Executed & {
        exited: number
      }
      return status?.exited === 1 ? status : undefined
    },
    { signal, first: 100, max: 500 },
  )
}

const result = (reply: Reply) => (reply.body.data as { result: unknown }).result
const agent = (command: string) => client.get(`${GUEST}/agent/${command}`)

/** The node fetches the system from this process, as it would from a mirror. */
async function fetchSource(): Promise<void> {
  const cacheDir = process.env.IMAGEBUILD_CACHE_DIR ?? join(tmpdir(), 'imagebuild-e2e-cache')
  const { path } = await bootstrapDisk(SYSTEM, { cacheDir, signal })
  const { size } = await stat(path)
  const web = createServer((_request, response) => {
    createReadStream(path).pipe(response.writeHead(200, { 'content-length': size }))
  })
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(web.address() as AddressInfo).port}/lab-test.qcow2`
  const wanted = { content: 'import', filename: 'lab-test.qcow2', url }
  expect(await ended(await client.post(`${NODE}/storage/local/download-url`, wanted))).toBe('OK')
  web.close()
  web.closeAllConnections()
}

beforeAll(async () => {
  const lab = await ensureLab({ dir: LAB_DIR, signal, emit: () => undefined })
  client = new Client(lab.endpoint, lab.fingerprint, { token: lab.token })
  await fetchSource()
  const hardware: Fields = {
    ...{ name: 'lab-test', memory: 1024, cores: 2, cpu: 'x86-64-v2-AES', machine: 'q35', bios: 'ovmf' },
    ...{ scsihw: 'virtio-scsi-single', serial0: 'socket', vga: 'serial0', agent: 1, boot: 'order=scsi0' },
    scsi0: `local:0,import-from=${SOURCE},format=qcow2,discard=on,iothread=1`,
    scsi1: 'local:cloudinit',
    efidisk0: 'local-lvm:1,efitype=4m',
    ...{ net0: `virtio,bridge=${lab.bridge}`, ipconfig0: 'ip=dhcp', ciuser: 'tester', ciupgrade: 0 },
  }
  expect(await ended(await client.post(`${NODE}/qemu`, { vmid: VMID, ...hardware }))).toBe('OK')
  expect(await ended(await client.post(`${GUEST}/status/start`))).toBe('OK')
  const ping = async () => (await client.post(`${GUEST}/agent/ping`)).status === 200 || undefined
  await poll(ping, { signal, first: 500, max: 1000 })
})

afterAll(async () => {
  await ended(await client.post(`${GUEST}/status/stop`))
  await ended(await client.delete(GUEST))
  await client.delete(`${NODE}/storage/local/content/${SOURCE}`, { delay: 10 })
  await client.close()
})

test('the guest was set up by the cloud-init drive', async () => {
  const { exitcode, 'out-data': out } = await run(['/bin/sh', '-c', 'cloud-init status --wait; hostname'])
  expect({ exitcode, out }).toEqual({ exitcode: 0, out: expect.stringMatching(/status: done\nlab-test\n$/) })
  expect((await run(['/usr/bin/id', '-un', 'tester']))['out-data']).toBe('tester\n')
  expect((await run(['/usr/bin/test', '-d', '/sys/firmware/efi'])).exitcode).toBe(0)
})

test('the agent tells what it sees', async () => {
  expect(result(await agent('get-osinfo'))).toMatchObject({ id: 'debian', 'version-id': '13' })
  expect(result(await agent('get-host-name'))).toEqual({ 'host-name': 'lab-test' })
  const addresses = result(await agent('network-get-interfaces')) as { name: string }[]
  expect(addresses.map(({ name }) => name)).toContain('lo')
  expect(JSON.stringify(addresses)).toMatch(/"ip-address":"10\.83\.\d+\.\d+"/)
})

test('commands run in it, and say how they ended', async () => {
  expect(await run(['/bin/sh', '-c', 'echo out; echo err >&2; exit 3'])).toMatchObject({
    exitcode: 3,
    'out-data': 'out\n',
    'err-data': 'err\n',
  })
  expect((await run(['/bin/cat'], 'ü\n'))['out-data']).toBe('ü\n')
  const missing = await client.post(`${GUEST}/agent/exec`, { command: '/no/such' })
  expect(missing).toMatchObject({ status: 500, reason: expect.stringContaining('Failed to execute') })
})

test('files go in and out', async () => {
  const file = '/root/written'
  expect((await client.post(`${GUEST}/agent/file-write`, { file, content: 'a\nü' })).body).toEqual({
    data: null,
  })
  // Proxmox gives bytes as characters.
  const read = async (name: string) => client.get(`${GUEST}/agent/file-read`, { file: name })
  expect((await read(file)).body.data).toEqual({
    content: Buffer.from('a\nü').toString('latin1'),
    'bytes-read': 4,
  })
  const part = { file, offset: 2, count: 1, decode: 0 }
  expect((await client.get(`${GUEST}/agent/file-read`, part)).body.data).toEqual({
    content: Buffer.from([0xc3]).toString('base64'),
    ...{ 'bytes-read': 1, truncated: 1 },
  })
  await run(['/bin/sh', '-c', 'head -c 17000000 /dev/zero | tr "\\0" x > /root/large'])
  const large = (await read('/root/large')).body.data as { content: string; truncated: number }
  expect([large.content.length, large.truncated]).toEqual([16 << 20, 1])
  expect((await read('/none')).reason).toMatch(/^Agent error: failed to open file '\/none'/)
})

test('fstrim gives its freed blocks back', async () => {
  expect(result(await client.post(`${GUEST}/agent/fstrim`))).toMatchObject({ paths: [{ path: '/' }] })
})

test('agent shutdown is answered although the agent answers nothing', async () => {
  const reply = await client.post(`${GUEST}/agent/shutdown`)
  expect(reply.body.data).toEqual({ result: {} })
  const status = async () =>
    ((await client.get(`${GUEST}/status/current`)).body.data as { status: string }).status
  await poll(async () => (await status()) === 'stopped' || undefined, { signal, first: 500 })
  expect((await client.post(`${GUEST}/agent/ping`)).reason).toBe(`VM ${VMID} is not running`)
})
