import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { watchLab } from '../../src/cli/lab-end.ts'
import type { ImagebuildError } from '../../src/core/errors.ts'
import type { Event } from '../../src/core/events.ts'
import { ensureLab, labStatus, stopLab } from '../../src/lab/lab.ts'
import { labNames } from '../../src/lab/names.ts'

let dir: string
let said: Event[]
const { signal } = new AbortController()
const start = (more: { stay?: boolean; pve?: 8 | 9; port?: number } = {}) =>
  ensureLab({ dir, signal, emit: (event) => said.push(event), ...more })

/** What the lab on this folder has in the system. */
async function traces(): Promise<string[]> {
  const { bridge, table, runtime } = labNames(dir)
  const processes = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.includes(dir) || command.includes(runtime)) processes.push(command.replaceAll('\0', ' '))
  }
  return [
    ...processes,
    ...(await readdir('/sys/class/net')).filter((name) => name === bridge),
    ...execFileSync('nft', ['list', 'tables'])
      .toString()
      .split('\n')
      .filter((line) => line.includes(table)),
    ...(existsSync(runtime) ? [runtime] : []),
    // Labs of other tests come and go: what is gone while it is read was not this one's alone.
    ...(await readdir('/run/imagebuild-lab-forwarding', { recursive: true }).catch(() => [])).filter((name) =>
      name.includes(bridge),
    ),
  ]
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-lab-'))
  said = []
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await stopLab(dir)
  await rm(dir, { recursive: true, force: true })
})

const notRoot = process.getuid?.() !== 0

describe.skipIf(notRoot)(`the lab${notRoot ? ' (skipped: needs root)' : ''}`, () => {
  test('says in words of its own that a port is taken', async () => {
    await using holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    const { port } = holder.address() as AddressInfo
    const taken = await start({ port }).catch((error: ImagebuildError) => error)
    expect(taken).toMatchObject({
      code: 'busy',
      what: `the lab does not start: port ${port} of 127.0.0.1 is taken`,
      output: [],
      next: expect.stringContaining(`ss -ltnp 'sport = :${port}'`),
    })
  })

  test('is one for all who ask at once; stopped, it leaves nothing but its folder', async () => {
    const [one, other] = await Promise.all([start(), start()])
    expect(one).toEqual(other)
    expect(said.filter(({ type }) => type === 'info')).toHaveLength(1)
    expect(one.token).toMatch(/^imagebuild@pve!lab=[0-9a-f-]{36}$/)
    expect(one.fingerprint).toMatch(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/)
    expect((await stat(join(dir, 'lab.json'))).mode & 0o777).toBe(0o600)
    expect(await labStatus(dir)).toMatchObject({ running: true, pid: one.pid })
    expect((await traces()).length).toBeGreaterThan(3)
    expect(await stopLab(dir)).toBe(true)
    expect(await labStatus(dir)).toEqual({ running: false })
    expect(await traces()).toEqual([])
    expect(await stopLab(dir)).toBe(false)
  })

  test('knows nothing of its caller’s environment that it does not need, nor do its children', async () => {
    vi.stubEnv('IB_TEST_TOKEN', 'hunter2')
    vi.stubEnv('TZ', 'Europe/Vienna')
    const { pid } = await start()
    const { runtime } = labNames(dir)
    const dnsmasq = Number(await readFile(join(runtime, 'dnsmasq.pid'), 'utf8'))
    for (const process of [pid, dnsmasq]) {
      const names = (await readFile(`/proc/${process}/environ`, 'utf8'))
        .split('\0')
        .map((line) => line.replace(/=.*/s, ''))
      expect(names).toContain('PATH')
      expect(names).toContain('TZ')
      expect(names).not.toContain('IB_TEST_TOKEN')
    }
  })

  test('comes back after a SIGKILL where it was, with the same key and token', async () => {
    const before = await start()
    process.kill(before.pid, 'SIGKILL')
    while ((await labStatus(dir)).running) await delay(10)
    const after = await start()
    expect(after.pid).not.toBe(before.pid)
    expect({ ...after, pid: 0 }).toEqual({ ...before, pid: 0 })
  })

  test('plays the Proxmox VE that is asked for, or the one that it played last', async () => {
    const role = async () => {
      const { roles } = JSON.parse(await readFile(join(dir, 'state/access.json'), 'utf8'))
      return (roles.Imagebuild as string[]).filter((name) => /Monitor|GuestAgent/.test(name))
    }
    expect((await start()).pve).toMatch(/^9\./)
    expect(await role()).toEqual(['VM.GuestAgent.Unrestricted'])
    await expect(start({ pve: 8 })).rejects.toMatchObject({
      code: 'busy',
      what: expect.stringMatching(/runs already, and plays Proxmox VE 9\./),
    })
    await stopLab(dir)
    const { token } = await start({ pve: 8 })
    expect(await role()).toEqual(['VM.Monitor'])
    await stopLab(dir)
    expect(await start()).toMatchObject({ pve: expect.stringMatching(/^8\./), token })
    await stopLab(dir)
    await writeFile(join(dir, 'config.json'), JSON.stringify({ pve: 9 }))
    expect((await start()).pve).toMatch(/^9\./)
  })

  test('a lab.json that does not say what it played belongs to a lab that becomes the default', async () => {
    const { token } = await start({ pve: 8 })
    await stopLab(dir)
    const { pve: _, ...earlier } = JSON.parse(await readFile(join(dir, 'lab.json'), 'utf8'))
    await writeFile(join(dir, 'lab.json'), JSON.stringify(earlier))
    expect(await start()).toMatchObject({ pve: expect.stringMatching(/^9\./), token })
  })

  test('stop also removes what a killed daemon has left', async () => {
    const { pid } = await start()
    process.kill(pid, 'SIGKILL')
    while ((await labStatus(dir)).running) await delay(10)
    expect((await traces()).length).toBeGreaterThan(2)
    expect(await stopLab(dir)).toBe(true)
    expect(await traces()).toEqual([])
  })

  test('ends by itself when nobody needs it, unless it shall stay', async () => {
    await writeFile(join(dir, 'config.json'), JSON.stringify({ idleSeconds: 0.3 }))
    await start()
    // Asking it whether it runs would keep it alive: look from outside.
    while ((await traces()).length > 0) await delay(50)
    const { pid } = await start({ stay: true })
    await delay(1000)
    expect(await labStatus(dir)).toMatchObject({ running: true, pid })
  })

  test('a process that works on it is a need, also while it asks it nothing', async () => {
    await writeFile(join(dir, 'config.json'), JSON.stringify({ idleSeconds: 4 }))
    const { pid } = await start()
    {
      using _ = watchLab(dir, pid, AbortSignal.timeout(600_000))
      await delay(9000)
      expect((await traces()).length).toBeGreaterThan(0)
    }
    while ((await traces()).length > 0) await delay(50)
  })

  test('an upload that takes its time is a need', async () => {
    // Enough for a busy machine to send the first bytes, and less than the upload takes.
    await writeFile(join(dir, 'config.json'), JSON.stringify({ idleSeconds: 4 }))
    const lab = await start()
    const before = ['--x', 'Content-Disposition: form-data; name="content"', '', 'iso', '--x']
    const head = `${[...before, 'Content-Disposition: form-data; name="filename"; filename="slow.iso"', '', ''].join('\r\n')}`
    const [first, second, end] = ['first', 'second', '\r\n--x--\r\n']
    const answer = new Promise<number | undefined>((resolve, reject) => {
      const upload = request(`${lab.endpoint}/api2/json/nodes/lab/storage/local/upload`, {
        method: 'POST',
        ca: readFileSync(join(dir, 'tls.crt')),
        checkServerIdentity: () => undefined,
        agent: false,
        headers: {
          authorization: `PVEAPIToken=${lab.token}`,
          'content-type': 'multipart/form-data; boundary=x',
          'content-length': head.length + first.length + second.length + end.length,
        },
      })
      upload.on('response', (response) => resolve(response.resume().statusCode))
      upload.on('error', reject)
      upload.write(head + first)
      setTimeout(() => upload.end(second + end), 9000)
    })
    expect(await answer).toBe(200)
    const file = join(dir, 'storage/local/template/iso/slow.iso')
    await expect.poll(() => readFile(file, 'utf8').catch(() => '')).toBe(first + second)
  })

  test('says what is wrong with its configuration', async () => {
    await writeFile(join(dir, 'config.json'), JSON.stringify({ idleSecond: 1 }))
    await expect(start()).rejects.toMatchObject({
      code: 'definition_invalid',
      what: expect.stringContaining('config.json is wrong'),
      why: expect.stringContaining('idleSecond'),
    })
    expect(await traces()).toEqual([])
  })
})
