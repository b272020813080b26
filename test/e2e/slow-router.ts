import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'

/**
 * A LAN with a bridge, a client elsewhere, and between them a router whose neighbour cache is as stubborn as those
 * that people complain about: entries live for an hour, and only an answer to its own question makes or changes one.
 *
 *   client 10.87.0.2 ── 10.87.0.1 router 10.86.0.1 ── bridge ── guests 10.86.0.0/24
 *
 * Linux learns from gratuitous ARP and from requests that it receives. So the first are dropped, and of the others the
 * sender's address is blanked: such a probe (RFC 5227) is answered, but nothing can be learned from it.
 */
export interface SlowRouter extends AsyncDisposable {
  /** runs a command in a namespace; never fails by itself */
  run(namespace: 'lan' | 'router' | 'client', ...command: string[]): ReturnType<typeof within>
  /** a new network card on the bridge; its other end is for the guest, and lies in the namespace `lan` */
  plug(mac: string): Promise<{ card: string; unplug(): Promise<void> }>
  /** what the router believes */
  neighbour(address: string): Promise<{ mac?: string; state: string } | undefined>
  /** ARP packets since the beginning: the router's own questions for guests, gratuitous ones that it did not see */
  counters(): Promise<{ asked: number; ignored: number }>
  /** one single packet of TCP's handshake, from the client: the first is answered, or nothing is */
  reaches(address: string): Promise<boolean>
  namespaces: { lan: string; router: string; client: string }
}

export const LAN = { first: '10.86.0.10', last: '10.86.0.200', prefix: 24, gateway: '10.86.0.1' }

const RULES = `
  table arp slow {
    counter asked {}
    counter ignored {}
    chain input {
      type filter hook input priority filter
      iifname "lan0" arp saddr ip 10.86.0.0/24 arp daddr ip != ${LAN.gateway} counter name ignored drop
      iifname "lan0" arp operation request arp saddr ip 10.86.0.0/24 arp saddr ip set 0.0.0.0
    }
    chain output {
      type filter hook output priority filter
      oifname "lan0" arp operation request counter name asked
    }
  }`

function within(namespace: string, command: readonly string[], input?: string) {
  return execa('ip', ['netns', 'exec', namespace, ...command], {
    reject: false,
    ...(input !== undefined && { input }),
  })
}

export async function slowRouter(): Promise<SlowRouter> {
  const tag = `ibarp${process.pid}`
  const namespaces = { lan: `${tag}-lan`, router: `${tag}-router`, client: `${tag}-client` }
  await using stack = new AsyncDisposableStack()
  const ip = (...args: string[]) => execa('ip', args)
  for (const name of Object.values(namespaces)) {
    await ip('netns', 'add', name)
    stack.defer(async () => void (await execa('ip', ['netns', 'delete', name], { reject: false })))
    await ip('-n', name, 'link', 'set', 'lo', 'up')
  }
  const { lan, router, client } = namespaces
  const pair = async (a: [string, string], b: [string, string]) => {
    await ip('-n', a[0], 'link', 'add', a[1], 'type', 'veth', 'peer', 'name', b[1], 'netns', b[0])
    for (const [where, card] of [a, b]) await ip('-n', where, 'link', 'set', card, 'up')
  }
  await ip('-n', lan, 'link', 'add', 'br0', 'type', 'bridge', 'forward_delay', '0')
  await ip('-n', lan, 'link', 'set', 'br0', 'up')
  await pair([lan, 'router'], [router, 'lan0'])
  await ip('-n', lan, 'link', 'set', 'router', 'master', 'br0')
  await pair([router, 'out0'], [client, 'eth0'])
  await ip('-n', router, 'address', 'add', `${LAN.gateway}/24`, 'dev', 'lan0')
  await ip('-n', router, 'address', 'add', '10.87.0.1/24', 'dev', 'out0')
  await ip('-n', client, 'address', 'add', '10.87.0.2/24', 'dev', 'eth0')
  await ip('-n', client, 'route', 'add', 'default', 'via', '10.87.0.1')
  const cache = 'net.ipv4.neigh.lan0'
  const settings = [
    'net.ipv4.ip_forward=1',
    'net.ipv4.conf.lan0.arp_accept=0',
    `${cache}.base_reachable_time_ms=3600000`,
    `${cache}.gc_stale_time=3600`,
    // How long it takes to notice that nobody is there, once an entry has expired: not what is tested.
    `${cache}.delay_first_probe_time=1`,
    `${cache}.retrans_time_ms=200`,
  ]
  for (const setting of settings) {
    const { exitCode, stderr } = await within(router, ['sysctl', '-qw', setting])
    if (exitCode !== 0) throw new Error(stderr)
  }
  const loaded = await within(router, ['nft', '-f', '-'], RULES)
  if (loaded.exitCode !== 0) throw new Error(loaded.stderr)

  let cards = 0
  const owned = stack.move()
  return {
    namespaces,
    run: (namespace, ...command) => within(namespaces[namespace], command),
    async plug(mac) {
      cards += 1
      const [port, card] = [`port${cards}`, `card${cards}`]
      await ip('-n', lan, 'link', 'add', port, 'type', 'veth', 'peer', 'name', card, 'address', mac)
      await ip('-n', lan, 'link', 'set', port, 'master', 'br0', 'up')
      return {
        card,
        unplug: async () => {
          await execa('ip', ['-n', lan, 'link', 'delete', port], { reject: false })
        },
      }
    },
    async neighbour(address) {
      const { stdout } = await ip('-n', router, '-json', 'neighbour', 'show', 'to', address, 'dev', 'lan0')
      const [entry] = JSON.parse(stdout || '[]') as { lladdr?: string; state: string[] }[]
      if (entry === undefined) return undefined
      return { state: entry.state.join(), ...(entry.lladdr && { mac: entry.lladdr.toUpperCase() }) }
    },
    async counters() {
      const { stdout } = await within(router, ['nft', '-j', 'list', 'counters'])
      const { nftables } = JSON.parse(stdout) as {
        nftables: { counter?: { name: string; packets: number } }[]
      }
      const count = (name: string) => nftables.find(({ counter }) => counter?.name === name)?.counter?.packets
      return { asked: count('asked') ?? -1, ignored: count('ignored') ?? -1 }
    },
    async reaches(address) {
      // TCP repeats its first packet after one second.
      const script = `exec 3<>/dev/tcp/${address}/22`
      const { exitCode } = await within(client, ['timeout', '0.9', 'bash', '-c', script])
      return exitCode === 0
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** A folder that is gone at the end. */
export async function scratch(stack: AsyncDisposableStack): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-arp-'))
  stack.defer(async () => void (await execa('rm', ['-rf', '--one-file-system', folder])))
  return folder
}
