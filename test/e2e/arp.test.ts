import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { poll, withDeadline } from '../../src/core/scope.ts'
import { type Identity, identities } from '../../src/plan/network.ts'
import { bootstrapRootfs } from '../../src/source/bootstrap.ts'
import { bootContainer } from './fresh-container.ts'
import { CACHE_DIR, SYSTEM } from './harness.ts'
import { LAN, type SlowRouter, scratch, slowRouter } from './slow-router.ts'

/** A router with a stubborn neighbour cache, and guests that come and go behind it. */
const resources = new AsyncDisposableStack()
let router: SlowRouter

beforeAll(async () => {
  router = resources.use(await slowRouter())
})
afterAll(() => resources.disposeAsync())

const randomMac = () => ['02', ...(randomBytes(5).toString('hex').match(/../g) ?? [])].join(':').toUpperCase()
const pairOf = (image: string) => {
  const [identity] = identities({ namespace: 'homelab', image, role: 'build', macPrefix: '02:1b' }, LAN)
  return identity as Required<Identity>
}

/** A guest that is no more than a card, an address and a listener; it announces itself when it comes. */
async function minimalGuest(address: string, mac: string): Promise<AsyncDisposable> {
  await using stack = new AsyncDisposableStack()
  const guest = `ibarp${process.pid}-guest`
  const ip = (...args: string[]) => execa('ip', ['-n', guest, ...args])
  await execa('ip', ['netns', 'add', guest])
  stack.defer(async () => void (await execa('ip', ['netns', 'delete', guest])))
  const { card, unplug } = await router.plug(mac)
  stack.defer(unplug)
  await router.run('lan', 'ip', 'link', 'set', card, 'netns', guest, 'name', 'eth0')
  await execa('ip', ['netns', 'exec', guest, 'sysctl', '-qw', 'net.ipv4.conf.eth0.arp_notify=1'])
  await ip('address', 'add', `${address}/24`, 'dev', 'eth0')
  await ip('link', 'set', 'eth0', 'up')
  await ip('route', 'add', 'default', 'via', LAN.gateway)
  const program = "require('net').createServer((s) => s.end()).listen(22, () => console.log('listening'))"
  const listener = execa('ip', ['netns', 'exec', guest, process.execPath, '-e', program], { reject: false })
  stack.defer(async () => {
    listener.kill()
    await listener
  })
  await once(listener.stdout, 'data', { signal: AbortSignal.timeout(30_000) })
  // The kernel's way to announce it, now that the bridge forwards.
  await ip('link', 'set', 'eth0', 'address', mac)
  const owned = stack.move()
  return { [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

describe('a guest that is destroyed and created again at the same address', () => {
  test('with a random MAC is unreachable until the router’s entry has expired, whatever it announces', async () => {
    const address = '10.86.0.250'
    const first = randomMac()
    {
      await using _guest = await minimalGuest(address, first)
      expect(await router.reaches(address)).toBe(true)
    }
    const second = randomMac()
    const before = await router.counters()
    await using _guest = await minimalGuest(address, second)
    for (let tries = 0; tries < 4; tries += 1) expect(await router.reaches(address)).toBe(false)
    expect((await router.neighbour(address))?.mac).toBe(first)
    const { asked, ignored } = await router.counters()
    expect(asked, 'it never asked').toBe(before.asked)
    expect(ignored, 'the guest did announce itself').toBeGreaterThan(before.ignored)

    // What an hour would do.
    await router.run(
      'router',
      'ip',
      'neighbour',
      'change',
      address,
      'lladdr',
      first,
      'nud',
      'stale',
      'dev',
      'lan0',
    )
    using deadline = withDeadline(undefined, 30, 'the expiry')
    await poll(async () => ((await router.reaches(address)) ? true : undefined), { signal: deadline })
    expect((await router.neighbour(address))?.mac).toBe(second)
  })

  test('with the MAC that belongs to the address is reachable at once', async () => {
    const { address, mac } = pairOf('web')
    {
      await using _guest = await minimalGuest(address, mac)
      expect(await router.reaches(address)).toBe(true)
    }
    const before = await router.counters()
    await using _guest = await minimalGuest(address, mac)
    expect(await router.reaches(address)).toBe(true)
    expect(await router.neighbour(address)).toEqual({ mac, state: 'REACHABLE' })
    expect((await router.counters()).asked).toBe(before.asked)
  })
})

const BOOTS = Number(process.env.IMAGEBUILD_TEST_BOOTS ?? 10)

test(`${BOOTS} boots in a row of a new container never wait for ARP`, async () => {
  await using stack = new AsyncDisposableStack()
  const folder = await scratch(stack)
  const rootfs = await bootstrapRootfs(SYSTEM, {
    ...{ cacheDir: CACHE_DIR, signal: AbortSignal.timeout(900_000) },
  })
  const base = join(folder, 'base')
  await mkdir(base)
  await execa('tar', ['-xpf', rootfs.path, '--zstd', '--numeric-owner', '--exclude=./dev/*', '-C', base])

  const { address, mac } = pairOf('debian-base-lxc')
  const seen = { machineIds: new Set<string>(), hostKeys: new Set<string>() }
  for (let boot = 1; boot <= BOOTS; boot += 1) {
    const before = await router.counters()
    await using container = await bootContainer(router, folder, base, {
      name: `boot${boot}`,
      mac,
      address: `${address}/24`,
      gateway: LAN.gateway,
    })
    seen.machineIds.add(container.machineId)
    seen.hostKeys.add(container.hostKey)
    // Its very first packet from outside.
    expect(await router.reaches(address), `boot ${boot}`).toBe(true)
    expect(await router.neighbour(address), `boot ${boot}`).toEqual({ mac, state: 'REACHABLE' })
    // The router had to ask once, for the first of them.
    expect((await router.counters()).asked - before.asked, `boot ${boot}`).toBe(boot === 1 ? 1 : 0)
  }
  // They were new each time.
  expect(seen.machineIds.size).toBe(BOOTS)
  expect(seen.hostKeys.size).toBe(BOOTS)
  for (const id of seen.machineIds) expect(id).toMatch(/^[0-9a-f]{32}$/)
})
