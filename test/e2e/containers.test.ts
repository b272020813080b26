import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readConfig } from '../../src/lab/config.ts'
import { closeHost, type Host, openHost } from '../../src/lab/host.ts'
import type { ContainerNic, ContainerSpec } from '../../src/lab/world.ts'
import { debianArchive } from './debian-archive.ts'

let dir: string
let host: Host
let archive: string
const ended: number[] = []

beforeAll(async () => {
  archive = await debianArchive()
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-debian-'))
  host = await openHost(dir, await readConfig(dir, {}), () => ended.push(1))
})
afterAll(async () => {
  await closeHost(dir, host)
  await rm(dir, { recursive: true, force: true })
})

async function created(vmid: number, nic: Partial<ContainerNic>, changes: Partial<ContainerSpec> = {}) {
  const storage = host.storages.find(({ id }) => id === 'local-lvm')
  if (storage === undefined) throw new Error('no storage')
  const { volid } = await storage.createRoot(vmid, 2 ** 31, () => {})
  const mac = `02:11:00:00:00:${vmid % 100}`
  const spec: ContainerSpec = {
    ...{ vmid, hostname: `ct${vmid}`, arch: 'amd64', memory: 512, swap: 0, unprivileged: true },
    ...{ features: { nesting: true }, root: storage.path(volid), ...changes },
    nics: [{ slot: 'net0', name: 'eth0', mac, bridge: 'vmbr0', options: {}, ...nic }],
  }
  const log: string[] = []
  await host.containers.create(spec, { archive }, (line) => log.push(line))
  return { spec, log, mac }
}

/** Asks until there is an answer; the test's own time is the limit. */
async function eventually<T>(probe: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await probe()
    if (found !== undefined) return found
    await delay(100)
  }
}

const address = (vmid: number) =>
  eventually(async () => {
    const eth0 = (await host.containers.interfaces(vmid)).find(({ name }) => name === 'eth0')
    return eth0?.addresses.find(({ family }) => family === 'inet')?.address
  })

/** Fingerprints of the host keys that an SSH server shows. */
const shown = (ip: string) =>
  eventually(async () => {
    const scan = await execa('ssh-keyscan', ['-T', '2', ip], { reject: false })
    if (scan.stdout === '') return undefined
    const { stdout } = await execa('ssh-keygen', ['-lf', '-'], { input: scan.stdout })
    return stdout.split('\n').map((line) => line.split(' ')[1])
  })

describe('Debian in a container', () => {
  test.each([true, false])(
    'boots at its address and shows the logged host keys (unprivileged: %s)',
    async (unprivileged) => {
      const vmid = unprivileged ? 210 : 211
      const { gateway } = host.subnet
      const ip = gateway.replace(/\d+$/, String(vmid))
      const { spec, log } = await created(vmid, { ip: `${ip}/24`, gw: gateway }, { unprivileged })
      await host.containers.start(spec, () => {})
      expect(await address(vmid)).toBe(ip)
      const logged = log.flatMap((line) => /^done: (\S+) root@ct\d+$/.exec(line)?.[1] ?? [])
      expect(logged).toHaveLength(3)
      const keys = await shown(ip)
      expect(logged).toEqual(expect.arrayContaining(keys))
      expect(keys.length).toBeGreaterThan(0)
      const { netin, netout, mem } = await host.containers.status(vmid)
      for (const count of [netin, netout, mem]) expect(count).toBeGreaterThan(1000)
      await host.containers.shutdown(vmid, 60)
      expect(await host.containers.running()).toEqual([])
    },
  )

  test('gets its address by DHCP, survives its own reboot, and ends by its own poweroff', async () => {
    const { spec, mac } = await created(212, { ip: 'dhcp' })
    await host.containers.start(spec, () => {})
    const ip = await address(212)
    const neighbour = await execa('ip', ['neighbour', 'show', ip])
    await shown(ip)
    expect((await execa('ip', ['neighbour', 'show', ip])).stdout || neighbour.stdout).toContain(mac)
    const { pid } = await host.containers.status(212)
    await inside(pid, 'reboot')
    await eventually(async () => {
      const status = await host.containers.status(212)
      expect(status.running).toBe(true)
      return status.pid !== undefined && status.pid !== pid ? true : undefined
    })
    expect(await address(212)).toBe(ip)
    expect(await host.containers.consoleLog(212)).toContain('Debian GNU/Linux 13')
    const before = ended.length
    // It takes orders once its init listens.
    await eventually(async () => {
      const status = await host.containers.status(212)
      if (status.pid !== undefined) await inside(status.pid, 'poweroff')
      await delay(500)
      return (await host.containers.running()).length === 0 ? true : undefined
    })
    expect(ended.length).toBe(before + 1)
  })

  test('has a console to log in at', async () => {
    const { spec } = await created(213, { ip: 'manual' })
    await host.containers.start(spec, () => {})
    await eventually(async () =>
      (await host.containers.consoleLog(213)).includes('login:') ? true : undefined,
    )
    const console = await host.containers.console(213)
    let text = ''
    console.on('data', (chunk: Buffer) => {
      text += chunk
    })
    await eventually(async () => {
      console.write('somebody\n')
      await delay(500)
      return text.includes('Password:') ? true : undefined
    })
    console.destroy()
    await host.containers.stop(213)
  })
})

async function inside(pid: number | undefined, verb: string): Promise<void> {
  const spaces = ['-m', '-u', '-i', '-n', '-p', '-U', '-C']
  await execa('nsenter', ['-t', String(pid), ...spaces, '--', '/usr/bin/systemctl', verb], { reject: false })
}
