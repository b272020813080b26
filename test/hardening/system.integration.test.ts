import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { describe, expect, test } from 'vitest'
import { expandHardening } from '../../src/hardening/expand.ts'
import type { HardeningItem, MachineTraits } from '../../src/hardening/item.ts'
import { nftablesRuleset } from '../../src/hardening/items/firewall-ruleset.ts'
import { ITEMS } from '../../src/hardening/items/index.ts'

const where = { file: 'image.yaml', line: 1, column: 1 }
const MACHINES: Record<string, MachineTraits> = {
  'a virtual machine': { kind: 'vm', unprivileged: false, containerHost: false, postQuantum: false },
  'a virtual machine with Docker': {
    kind: 'vm',
    unprivileged: false,
    containerHost: true,
    postQuantum: false,
  },
  'a container': { kind: 'lxc', unprivileged: true, containerHost: false, postQuantum: false },
  'a container with Docker': { kind: 'lxc', unprivileged: true, containerHost: true, postQuantum: false },
}
const VM = MACHINES['a virtual machine'] as MachineTraits

const expand = (machine: MachineTraits) => expandHardening({ profile: 'cis-l1', except: {}, where }, machine)

const ALL = new Set(ITEMS.map(({ id }) => id))

const filesOf = ({ measures }: HardeningItem, machine: MachineTraits) =>
  (typeof measures === 'function' ? measures(machine, ALL) : measures).files ?? []

const appliedTo = (machine: MachineTraits) =>
  ITEMS.filter((item) => item.notApplicable?.(machine) === undefined)

/** Every `key = value` of the sysctl files that a machine gets. */
const sysctls = (machine: MachineTraits) =>
  appliedTo(machine)
    .flatMap((item) => filesOf(item, machine))
    .filter(({ path }) => path.startsWith('/etc/sysctl.d/'))
    .flatMap(({ content }) => content.split('\n'))
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(' = ') as [string, string])

describe('items', () => {
  test('have an id of their own, sources, and checks unless no machine can have them', () => {
    const ids = ITEMS.map(({ id }) => id)
    expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([])
    for (const item of ITEMS) {
      expect(item.sources, item.id).not.toEqual([])
      const machines = Object.values(MACHINES).filter((machine) => !item.notApplicable?.(machine))
      for (const machine of machines) {
        const checks = typeof item.checks === 'function' ? item.checks(machine, ALL) : item.checks
        expect(checks.length, item.id).toBeGreaterThan(0)
      }
    }
  })

  test('what a template cannot have is reported with the reason', () => {
    const left = expand(VM).left
    expect(left.map(({ id }) => id)).toEqual(expect.arrayContaining(['mounts-partitions', 'boot-password']))
    for (const { reason, because } of left) {
      expect(because).toBe('not-applicable')
      expect(reason.length).toBeGreaterThan(10)
    }
  })

  test('no file is written by two of them', () => {
    const paths = appliedTo(VM).flatMap((item) => filesOf(item, VM).map(({ path }) => path))
    expect(paths.filter((path, index) => paths.indexOf(path) !== index)).toEqual([])
  })
})

describe.each(Object.entries(MACHINES))('%s', (_, machine) => {
  test('has every setting of the kernel once, and it is asked for', () => {
    const set = sysctls(machine)
    expect(set.length).toBeGreaterThan(10)
    expect(new Set(set.map(([key]) => key)).size).toBe(set.length)
    const asked = new Map(
      expand(machine).checks.flatMap((check) => (check.kind === 'sysctl' ? [[check.key, check.value]] : [])),
    )
    for (const [key, value] of set.filter(([name]) => !name.includes('*'))) {
      expect(asked.get(key), key).toBe(value)
    }
  })

  test('keeps forwarding exactly where it runs containers', () => {
    const keys = sysctls(machine).map(([key]) => key)
    expect(keys.includes('net.ipv4.ip_forward')).toBe(!machine.containerHost)
    expect(keys.includes('net.ipv6.conf.all.forwarding')).toBe(!machine.containerHost)
    expect(nftablesRuleset(machine).includes('hook forward')).toBe(!machine.containerHost)
  })

  test('can still load what its boot loader, snap, containers and cloud-init need', () => {
    const files = appliedTo(machine).flatMap((item) => filesOf(item, machine))
    const refused = files
      .filter(({ path }) => path.startsWith('/etc/modprobe.d/'))
      .flatMap(({ content }) =>
        [...content.matchAll(/^(?:install|blacklist) (\S+)/gm)].map(([, name]) => name),
      )
    expect(refused.includes('cramfs')).toBe(machine.kind === 'vm')
    const needed = [
      'vfat',
      'squashfs',
      'overlay',
      'bridge',
      'br_netfilter',
      'iso9660',
      'isofs',
      'udf',
      'veth',
    ]
    expect(refused.filter((name) => needed.includes(name ?? ''))).toEqual([])
  })

  test('a container leaves the kernel, modules, audit, AppArmor and time to its node', () => {
    const ids = appliedTo(machine).map(({ id }) => id)
    for (const id of ['kernel-aslr', 'modules-protocols', 'logging-audit', 'apparmor', 'time-synchronised']) {
      expect(ids.includes(id), id).toBe(machine.kind === 'vm')
    }
    expect(ids).toContain('network-redirects')
    expect(sysctls(machine).filter(([key]) => machine.kind === 'lxc' && !key.startsWith('net.ipv'))).toEqual(
      [],
    )
  })
})

test('a container host loses the file by which its parent image was no router', () => {
  const file = '/etc/sysctl.d/zz-network-forwarding.conf'
  const host = expand(MACHINES['a virtual machine with Docker'] as MachineTraits)
  expect(appliedTo(VM).flatMap((item) => filesOf(item, VM).map(({ path }) => path))).toContain(file)
  const scripts = host.layers.map((layer) => (layer.kind === 'shell' ? layer.script : new Uint8Array()))
  expect(scripts.some((script) => Buffer.from(script).includes(`\nrm -f ${file}\n`))).toBe(true)
  const asked = host.checks.filter((check) => check.kind === 'file' && check.path === file)
  expect(asked).toMatchObject([{ id: 'network-container-forwarding', present: false }])
  expect(expand(VM).checks.filter((check) => check.kind === 'file' && check.path === file)).toEqual([])
})

test('a database of AIDE is never sealed in', () => {
  expect(expand(VM).atSeal).toContain('rm -f /var/lib/aide/aide.db')
})

/** A client, the machine with the ruleset, and a container behind it, each a network namespace. */
async function network(ruleset: string) {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-nft-'))
  const id = randomBytes(3).toString('hex')
  const [client, machine, behind] = ['c', 'm', 'b'].map((name) => `ibt-${id}-${name}`) as [
    string,
    string,
    string,
  ]
  const file = join(folder, 'nftables.conf')
  // The folder of the machine that runs this test is nobody's business.
  await writeFile(file, ruleset.replace('"/etc/nftables.d/*.nft"', `"${folder}/*.nft"`))
  const inside = (name: string, ...command: string[]) => ['netns', 'exec', name, ...command]
  const ip = (...args: string[]) => execa('ip', args)
  for (const name of [client, machine, behind]) {
    await ip('netns', 'add', name)
    await ip('-n', name, 'link', 'set', 'lo', 'up')
  }
  const link = async (from: string, to: string, net: string, toName: string) => {
    await ip('-n', from, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', toName, 'netns', to)
    await ip('-n', from, 'address', 'add', `${net}.2/24`, 'dev', 'eth0')
    await ip('-n', to, 'address', 'add', `${net}.1/24`, 'dev', toName)
    await ip('-n', from, 'link', 'set', 'eth0', 'up')
    await ip('-n', to, 'link', 'set', toName, 'up')
    await ip('-n', from, 'route', 'add', 'default', 'via', `${net}.1`)
  }
  await link(client, machine, '192.0.2', 'eth0')
  await link(behind, machine, '198.51.100', 'docker0')
  await execa('ip', inside(machine, 'sysctl', '-qw', 'net.ipv4.ip_forward=1'))
  const load = () => execa('ip', inside(machine, 'nft', '-f', file))
  return {
    folder,
    load,
    nft: async (...args: string[]) => (await execa('ip', inside(machine, 'nft', ...args))).stdout,
    ping: async (address: string) =>
      (await execa('ip', inside(client, 'ping', '-c1', '-W1', address), { reject: false })).exitCode === 0,
    /** refused: the packet arrived, nobody listens there; dropped: nothing came back */
    async knock(address: string, port: number): Promise<'refused' | 'dropped'> {
      const attempt = ['timeout', '1', 'bash', '-c', `: < /dev/tcp/${address}/${port}`]
      const { exitCode } = await execa('ip', inside(client, ...attempt), { reject: false })
      return exitCode === 124 ? 'dropped' : 'refused'
    },
    async [Symbol.asyncDispose]() {
      for (const name of [client, machine, behind])
        await execa('ip', ['netns', 'delete', name], { reject: false })
      await rm(folder, { recursive: true, force: true })
    },
  }
}

describe.skipIf(process.getuid?.() !== 0)('the ruleset, loaded into a network namespace', () => {
  test('lets in SSH and pings and what a file adds, drops the rest, forwards nothing', async () => {
    await using net = await network(nftablesRuleset({ containerHost: false }))
    expect(await net.knock('192.0.2.1', 8080)).toBe('refused')
    expect(await net.ping('198.51.100.2')).toBe(true)
    await net.load()
    expect(await net.knock('192.0.2.1', 22)).toBe('refused')
    expect(await net.knock('192.0.2.1', 8080)).toBe('dropped')
    expect(await net.ping('192.0.2.1')).toBe(true)
    expect(await net.ping('198.51.100.2')).toBe(false)

    await writeFile(join(net.folder, 'web.nft'), 'add element inet filter open_tcp { 8080-8090 }\n')
    await net.load()
    expect(await net.knock('192.0.2.1', 8080)).toBe('refused')
    expect(await net.knock('192.0.2.1', 9000)).toBe('dropped')
  })

  test('of a container host forwards, and leaves the tables of others alone when it is loaded again', async () => {
    await using net = await network(nftablesRuleset({ containerHost: true }))
    await net.load()
    await net.nft('add', 'table', 'ip', 'docker')
    await net.load()
    expect(await net.nft('list', 'tables')).toContain('table ip docker')
    expect(await net.ping('198.51.100.2')).toBe(true)
    expect(await net.knock('198.51.100.2', 80)).toBe('refused')
    expect(await net.knock('192.0.2.1', 8080)).toBe('dropped')
  })
})
