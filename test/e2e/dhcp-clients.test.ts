import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { poll, withDeadline } from '../../src/core/scope.ts'
import { bootstrapDisk } from '../../src/source/bootstrap.ts'
import type { BootstrapRecipe } from '../../src/source/bootstrap-recipe.ts'
import { CACHE_DIR, DEBIAN_12, SYSTEM } from './harness.ts'
import { scratch } from './slow-router.ts'

/**
 * What real DHCP clients send as their identifier, before and after sealing: those of a Debian system, started in
 * network namespaces beside a DHCP server, each time with a new root and a new machine-id, always with the same MAC.
 */

const MAC = '02:1b:00:00:00:07'
const SERVER = `ibdhcp${process.pid}-server`
const CLIENT = `ibdhcp${process.pid}-client`
const resources = new AsyncDisposableStack()
let folder: string
let bases: Record<keyof typeof CLIENTS, string>
let sealing: string
const ip = (...args: string[]) => execa('ip', args)

beforeAll(async () => {
  folder = await scratch(resources)
  sealing = join(folder, 'sealing.sh')
  const script = await readFile(new URL('../../src/build/seal.sh', import.meta.url), 'utf8')
  const block = /^# DHCP: .*?(?=^# Leases)/ms.exec(script)?.[0]
  await execa('tee', [sealing], { input: `set -eu\n${block}` })
  // cloud-init brings dhclient along in Debian 12, and no more in Debian 13.
  bases = { networkd: await unpack(SYSTEM), dhclient: await unpack(DEBIAN_12) }
  for (const name of [SERVER, CLIENT]) {
    await ip('netns', 'add', name)
    resources.defer(async () => void (await ip('netns', 'delete', name)))
  }
  await ip('-n', SERVER, 'link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', CLIENT)
  await ip('-n', SERVER, 'address', 'add', '10.98.0.1/24', 'dev', 'lan0')
  await ip('-n', SERVER, 'link', 'set', 'lan0', 'up')
  await ip('-n', CLIENT, 'link', 'set', 'eth0', 'address', MAC)
})
afterAll(() => resources.disposeAsync())

/** A bootstrapped system's root file system, out of its disk. */
async function unpack(recipe: BootstrapRecipe): Promise<string> {
  const disk = await bootstrapDisk(recipe, {
    ...{ cacheDir: CACHE_DIR, signal: AbortSignal.timeout(900_000) },
  })
  const raw = join(folder, `${recipe.suite}.raw`)
  const base = join(folder, recipe.suite)
  await execa('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', disk.path, raw])
  const { stdout } = await execa('sfdisk', ['--json', raw])
  const { partitions } = (
    JSON.parse(stdout) as { partitiontable: { partitions: { start: number; size: number }[] } }
  ).partitiontable
  const root = partitions.sort((a, b) => b.size - a.size)[0]
  await execa('mkdir', [base])
  await execa('mount', ['-o', `loop,ro,noload,offset=${(root?.start ?? 0) * 512}`, raw, base])
  resources.defer(async () => void (await execa('umount', [base])))
  return base
}

/** Leases by the end of `work`: identifiers, as the server has noted them. */
async function identifiers(work: () => Promise<void>): Promise<string[]> {
  const [leases, pid] = [join(folder, 'leases'), join(folder, 'dnsmasq.pid')]
  await rm(leases, { force: true })
  await ip(
    ...['netns', 'exec', SERVER, 'dnsmasq', '--conf-file=/dev/null', '--no-hosts', '--port=0'],
    ...['--interface=lan0', '--bind-interfaces', '--dhcp-range=10.98.0.10,10.98.0.99,255.255.255.0,1h'],
    ...['--dhcp-authoritative', '--no-ping', `--dhcp-leasefile=${leases}`, `--pid-file=${pid}`],
  )
  try {
    await work()
    return (await readFile(leases, 'utf8'))
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
  } finally {
    await execa('kill', [(await readFile(pid, 'utf8')).trim()])
  }
}

/** The root of a new guest: proc, sys and dev as in a container, an empty /run, a machine-id that nobody had before. */
const SET_UP = `
  set -eu
  mount --make-rprivate /
  mount -t tmpfs tmpfs "$WORK"; mkdir "$WORK/upper" "$WORK/work" "$WORK/root"; root=$WORK/root
  mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$WORK/upper,workdir=$WORK/work" "$root"
  mount -t proc proc "$root/proc"; mount -t sysfs -o ro sysfs "$root/sys"
  mount -t tmpfs tmpfs "$root/run"; mount -t tmpfs tmpfs "$root/dev"
  mknod -m 666 "$root/dev/null" c 1 3; mknod -m 666 "$root/dev/urandom" c 1 9
  mkdir -p "$root/run/systemd/netif" "$root/run/dbus"; echo lxc > "$root/run/systemd/container"
  chroot "$root" chown systemd-network: /run/systemd/netif
  tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
  printf '[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\nLinkLocalAddressing=no\\n' > "$root/etc/systemd/network/10-eth0.network"
  if [ "$SEALED" = yes ]; then cp "$SEALING" "$root/run/seal.sh"; chroot "$root" sh /run/seal.sh; fi
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" $CLIENT`

const CLIENTS = {
  networkd: '/lib/systemd/systemd-networkd',
  // As ifupdown calls it: -i.
  dhclient: 'dhclient -4 -i -d -1 -sf /bin/true -pf /run/pid -lf /run/leases eth0',
}

/** One boot: until the server has given a lease, or renewed one. */
async function boot(client: keyof typeof CLIENTS, sealed: boolean): Promise<void> {
  const leases = join(folder, 'leases')
  const read = () => readFile(leases, 'utf8').catch(() => '')
  const before = await read()
  const work = join(folder, 'guest')
  await execa('mkdir', ['-p', work])
  await ip('-n', CLIENT, 'address', 'flush', 'dev', 'eth0')
  await ip('-n', CLIENT, 'link', 'set', 'eth0', 'up')
  const running = execa(
    'nsenter',
    [
      `--net=/run/netns/${CLIENT}`,
      'unshare',
      '--mount',
      '--pid',
      '--fork',
      '--kill-child',
      'sh',
      '-c',
      SET_UP,
    ],
    {
      reject: false,
      env: {
        WORK: work,
        BASE: bases[client],
        SEALING: sealing,
        SEALED: sealed ? 'yes' : 'no',
        CLIENT: CLIENTS[client],
      },
    },
  )
  let ended = false
  running.finally(() => {
    ended = true
  })
  using deadline = withDeadline(undefined, 60, `a lease for ${client}`)
  try {
    await poll(
      async () => {
        if (ended) throw new Error((await running).stderr)
        return (await read()) === before ? undefined : true
      },
      { signal: deadline, first: 100, max: 250 },
    )
    // Expiry times are whole seconds: the next boot's must be another one.
    await new Promise((resolve) => setTimeout(resolve, 1100))
  } finally {
    // Not by the parent's death: who changes its user, as networkd does, survives that.
    const { stdout } = await ip('netns', 'pids', CLIENT)
    for (const pid of stdout.split('\n').filter(Boolean))
      await execa('kill', ['-KILL', pid], { reject: false })
    await running
  }
}

describe('systemd-networkd, where nobody has chosen an identifier', () => {
  test('two new guests have two leases, as the distribution ships it', async () => {
    const seen = await identifiers(async () => {
      for (let times = 0; times < 2; times += 1) await boot('networkd', false)
    })
    expect(seen).toHaveLength(2)
  })

  test('three new guests have one lease, once sealed', async () => {
    const seen = await identifiers(async () => {
      for (let times = 0; times < 3; times += 1) await boot('networkd', true)
    })
    expect(seen).toEqual([expect.stringMatching(new RegExp(`:00:03:00:01:${MAC}$`))])
  })
})

describe('dhclient, as ifupdown calls it', () => {
  test('two new guests have two leases: without a lease of old, it makes an identifier up', async () => {
    const seen = await identifiers(async () => {
      for (let times = 0; times < 2; times += 1) await boot('dhclient', false)
    })
    expect(seen).toHaveLength(2)
  })

  test('three new guests have one lease, once sealed', async () => {
    const seen = await identifiers(async () => {
      for (let times = 0; times < 3; times += 1) await boot('dhclient', true)
    })
    expect(seen).toEqual([`01:${MAC}`])
  })
})
