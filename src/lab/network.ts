import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { lock } from '../core/lock.ts'
import { poll, withDeadline } from '../core/scope.ts'
import { readConnection } from './connection.ts'
import { forward, restoreForwarding } from './forwarding.ts'
import type { LabNames } from './names.ts'
import { endProcess, processOf } from './process.ts'
import { freeSubnet, type Route, type Subnet } from './subnet.ts'

/** Who changes this machine's network for a lab holds it: two labs must not choose the same subnet. */
const LOCK = '/run/lock/imagebuild-lab-network'

/** Bytes of the largest packet that needs no mention. */
const ETHERNET_MTU = 1500

export interface NetworkOptions {
  /** the lab's folder: DHCP leases are kept there */
  dir: string
  names: LabNames
}

/**
 * The lab's network: a bridge in the root namespace, which clients of the API know as vmbr0, with DHCP and DNS by
 * a dnsmasq that is bound to it, and NAT to wherever this machine's default route goes.
 */
export class LabNetwork {
  readonly #dir: string
  readonly #names: LabNames

  constructor({ dir, names }: NetworkOptions) {
    this.#dir = dir
    this.#names = names
  }

  /** Makes whatever is missing; what an earlier daemon has left is taken over or replaced. */
  async up(): Promise<Subnet> {
    await using _ = await lock(LOCK)
    const { bridge } = this.#names
    const routes = await ip<Route & { metric?: number }>('-4', 'route', 'show', 'table', 'all')
    const before = (await readConnection(this.#dir))?.network.cidr
    const network = freeSubnet(routes, bridge, before)
    if (network === undefined) throw new Error('this machine already has routes to all of 10.83.0.0/16')
    const uplink = routes
      .filter(({ dst }) => dst === 'default')
      .sort((a, b) => (a.metric ?? 0) - (b.metric ?? 0))[0]?.dev
    await this.#makeBridge(network)
    await this.#makeTable(network)
    for (const device of [bridge, ...(uplink ? [uplink] : [])]) await forward(device, bridge)
    await this.#startDnsmasq(network, uplink)
    return network
  }

  /** Takes everything away again. There may be nothing, or half of it. */
  async down(): Promise<void> {
    await using _ = await lock(LOCK)
    const { bridge, table } = this.#names
    await this.#stopDnsmasq()
    await execa('nft', ['delete', 'table', 'ip', table], { reject: false })
    for (const { ifname } of await ip<{ ifname: string }>('link', 'show', 'master', bridge).catch(() => [])) {
      await execa('ip', ['link', 'delete', ifname], { reject: false })
    }
    await execa('ip', ['link', 'delete', bridge], { reject: false })
    await restoreForwarding(bridge)
  }

  async attach(tap: string): Promise<void> {
    await execa('ip', ['link', 'set', tap, 'master', this.#names.bridge, 'up'])
  }

  async #makeBridge({ gateway }: Subnet): Promise<void> {
    const { bridge } = this.#names
    const made = await execa(
      'ip',
      ['link', 'add', bridge, 'address', bridgeAddress(bridge), 'type', 'bridge'],
      {
        reject: false,
      },
    )
    if (made.failed && !made.stderr.includes('File exists')) throw made
    await execa('ip', ['address', 'flush', 'dev', bridge, 'scope', 'global'])
    await execa('ip', ['address', 'replace', `${gateway}/24`, 'dev', bridge])
    await execa('ip', ['link', 'set', bridge, 'up'])
  }

  /** MSS: where the way out takes smaller packets than the bridge, TCP must know it from the first packet on. */
  async #makeTable({ cidr }: Subnet): Promise<void> {
    const { bridge, table } = this.#names
    const rules = `
      table ip ${table}
      delete table ip ${table}
      table ip ${table} {
        chain postrouting {
          type nat hook postrouting priority srcnat
          ip saddr ${cidr} oifname != "${bridge}" masquerade
        }
        chain forward {
          type filter hook forward priority mangle
          iifname "${bridge}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
          oifname "${bridge}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
        }
      }`
    await execa('nft', ['-f', '-'], { input: rules })
  }

  async #startDnsmasq({ gateway, netmask, dhcp }: Subnet, uplink: string | undefined): Promise<void> {
    await this.#stopDnsmasq()
    const { bridge } = this.#names
    const [link] = uplink ? await ip<{ mtu: number }>('link', 'show', 'dev', uplink) : []
    const mtu = link && link.mtu < ETHERNET_MTU ? [`--dhcp-option=option:mtu,${link.mtu}`] : []
    await execa('dnsmasq', [
      ...['--conf-file=/dev/null', '--no-hosts', '--bogus-priv', '--domain-needed'],
      ...[`--interface=${bridge}`, '--except-interface=lo', '--bind-interfaces'],
      `--dhcp-range=${dhcp.first},${dhcp.last},${netmask},1h`,
      ...[`--dhcp-option=option:router,${gateway}`, `--dhcp-option=option:dns-server,${gateway}`, ...mtu],
      // No probe whether an address is in use: it costs each guest three seconds, and all guests are ours.
      ...['--dhcp-authoritative', '--dhcp-rapid-commit', '--no-ping'],
      `--dhcp-leasefile=${join(this.#dir, 'dhcp.leases')}`,
      this.#pidOption,
    ])
    // It writes the file shortly after it has gone to the background; only then can it be found again.
    using deadline = withDeadline(undefined, 5, 'the start of dnsmasq')
    await poll(() => processOf(this.#pidFile, this.#pidOption), { signal: deadline, first: 5 })
  }

  async #stopDnsmasq(): Promise<void> {
    const pid = await processOf(this.#pidFile, this.#pidOption)
    if (pid !== undefined) await endProcess(pid, this.#pidOption, 5)
    await rm(this.#pidFile, { force: true })
  }

  get #pidFile(): string {
    return join(this.#names.runtime, 'dnsmasq.pid')
  }

  get #pidOption(): string {
    return `--pid-file=${this.#pidFile}`
  }
}

/** A fixed, locally administered address: a bridge without one takes its ports', and guests' ARP entries go stale. */
function bridgeAddress(bridge: string): string {
  const bytes = createHash('sha256').update(bridge).digest().subarray(0, 5)
  return ['02', ...[...bytes].map((byte) => byte.toString(16).padStart(2, '0'))].join(':')
}

async function ip<T>(...args: string[]): Promise<T[]> {
  const { stdout } = await execa('ip', ['-json', ...args])
  return JSON.parse(stdout || '[]') as T[]
}
