import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { toYaml } from '../../src/seed/cloud-config.ts'
import { networkConfig, type SeedNetwork } from '../../src/seed/network-config.ts'
import { userData } from '../../src/seed/nocloud.ts'
import { applyNetwork, noCloudInit, RELEASES, type Release, unpacked } from './cloud-init.ts'
import { generateNetwork, NETPLAN_RELEASES, noNetplan } from './netplan.ts'

/** What each release's cloud-init makes of our network-config, beside another card. */

const MAC = '02:aa:00:00:00:01'
const OTHER = '02:aa:00:00:00:02'
const CARDS = { ens18: OTHER, ens19: MAC }
const DHCP: SeedNetwork = { kind: 'dhcp', macAddress: MAC.toUpperCase() }
const STATIC: SeedNetwork = {
  kind: 'static',
  macAddress: MAC,
  address: '192.0.2.10/24',
  gateway: '192.0.2.1',
  dns: ['192.0.2.53'],
  searchDomains: ['example.test'],
  mtu: 1450,
}

const STATIC6: SeedNetwork = {
  kind: 'static',
  macAddress: MAC,
  address: '2001:db8::5/64',
  gateway: '2001:db8::1',
}

const ENI = 'etc/network/interfaces.d/50-cloud-init'
const NETPLAN = 'etc/netplan/50-cloud-init.yaml'
const NETWORKD = 'etc/systemd/network/10-cloud-init-eth0.network'
const NETWORK_MANAGER = 'etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection'
/** 20.4 has neither of the two. */
const TWO_RENDERERS = 'bullseye'

/** The seed's `bootcmd`, as cloud-init writes it into a script of its own. */
function bootCommand(network: SeedNetwork): string {
  const { bootcmd } = userData({
    instanceId: 'run-1-build',
    hostname: 'debian-base',
    user: { name: 'imagebuild', authorizedKey: 'ssh-ed25519 AAAAuser session' },
    hostKey: { privateKey: 'host', publicKey: 'ssh-ed25519 AAAAhost host' },
    network,
  }).build()
  return (bootcmd as string[][]).map((words) => words.map((word) => `'${word}'`).join(' ')).join('\n')
}

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'renderers-'))
})

afterEach(() => rm(folder, { recursive: true, force: true }))

const applyTo = (
  release: Release,
  network: SeedNetwork,
  cards: Record<string, string> = CARDS,
  then: readonly string[] = [],
) => applyNetwork(release, toYaml(networkConfig(network)), { folder, cards, then })

for (const release of RELEASES) {
  const missing = noCloudInit(release)
  const apply = applyTo.bind(undefined, release)

  describe.skipIf(missing)(
    `cloud-init of Debian ${release}${missing ? ` (skipped: ${missing})` : ''}`,
    () => {
      test('configures the card that has the MAC, by DHCP', async () => {
        const { cards, files } = await apply(DHCP)
        expect(cards).toMatchObject({ [MAC]: 'eth0', [OTHER]: 'ens18' })

        const { netplan, networkd, eni, 'network-manager': networkManager } = files
        expect(netplan).toEqual({ [NETPLAN]: expect.stringContaining(`macaddress: ${MAC}`) })
        expect(netplan?.[NETPLAN]).toContain('dhcp-identifier: mac')
        expect(netplan?.[NETPLAN]).toContain('set-name: eth0')
        // dhclient identifies by the MAC where it is told nothing.
        expect(eni?.[ENI]).toBe('auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n')
        expect(eni?.['etc/udev/rules.d/70-persistent-net.rules']).toMatch(
          `ATTR{address}=="${MAC}", NAME="eth0"`,
        )
        if (release === TWO_RENDERERS) return
        expect(networkd).toEqual({
          [NETWORKD]: `[Match]\nMACAddress=${MAC}\nName=eth0\n[Network]\nDHCP=ipv4\n`,
        })
        const connection = networkManager?.[NETWORK_MANAGER]
        expect(connection).toContain(`[ethernet]\nmac-address=${MAC.toUpperCase()}\n`)
        expect(connection).toContain('[ipv4]\nmethod=auto\n')
      })

      test('gives it address, gateway, name servers and MTU', async () => {
        const { cards, files } = await apply(STATIC)
        expect(cards).toMatchObject({ [MAC]: 'eth0', [OTHER]: 'ens18' })

        const { netplan, networkd, eni, 'network-manager': networkManager } = files
        // Handed on as it is, whatever netplan has that cloud-init does not know.
        const handedOn = netplan?.[NETPLAN]?.replace(/\s+/g, ' ')
        expect(handedOn).toContain('addresses: - 192.0.2.10/24 link-local: [] match:')
        expect(handedOn).toContain('routes: - to: 0.0.0.0/0 via: 192.0.2.1')
        expect(handedOn).toContain('nameservers: addresses: - 192.0.2.53 search: - example.test')
        const stanza = eni?.[ENI]?.split(/(?=^auto )/m).at(-1)
        expect(stanza).toMatch(/^auto eth0\niface eth0 inet static\n {4}address 192\.0\.2\.10\/24\n/)
        expect(stanza).toContain('    dns-nameservers 192.0.2.53\n    dns-search example.test\n')
        expect(stanza).toContain('    mtu 1450\n')
        expect(stanza).toContain('    post-up route add default gw 192.0.2.1 || true\n')
        if (release === TWO_RENDERERS) return
        expect(networkd).toEqual({
          [NETWORKD]: [
            '[Address]\nAddress=192.0.2.10/24',
            '[Link]\nMTUBytes=1450',
            `[Match]\nMACAddress=${MAC}\nName=eth0`,
            '[Network]\nDHCP=no\nDNS=192.0.2.53\nDomains=example.test',
            '[Route]\nDestination=0.0.0.0/0\nGateway=192.0.2.1\n',
          ].join('\n'),
        })
        const connection = networkManager?.[NETWORK_MANAGER]
        expect(connection).toContain(`[ethernet]\nmtu=1450\nmac-address=${MAC.toUpperCase()}\n`)
        expect(connection).toMatch(
          /method=manual\n.*address1=192\.0\.2\.10\/24\nroute1=0\.0\.0\.0\/0,192\.0\.2\.1\n/s,
        )
        expect(connection).toContain('dns=192.0.2.53;\ndns-search=example.test;\n')
      })

      test('takes the name away from another card', async () => {
        const { cards, files } = await apply(DHCP, { eth0: OTHER, eth1: MAC })
        expect(cards[MAC]).toBe('eth0')
        expect(cards[OTHER]).not.toBe('eth0')
        expect(files.eni?.[ENI]).toContain('iface eth0 inet dhcp')
      })

      test('gives it an IPv6 address and gateway', async () => {
        const { files } = await apply(STATIC6)
        expect(files.netplan?.[NETPLAN]).toMatch(/to: ::\/0\n +via: 2001:db8::1\n/)
        expect(files.eni?.[ENI]).toMatch(/iface eth0 inet6 static\n +address 2001:db8::5\/64\n/)
        if (release === TWO_RENDERERS) return
        expect(files.networkd?.[NETWORKD]).toContain('[Address]\nAddress=2001:db8::5/64\n')
        expect(files['network-manager']?.[NETWORK_MANAGER]).toContain('address1=2001:db8::5/64\n')
        // Up to 22.4 it takes the prefix length 0 for a missing one, which userData makes up for.
        const to = release === 'bookworm' ? '::/64' : '::/0'
        expect(files.networkd?.[NETWORKD]).toContain(`[Route]\nDestination=${to}\nGateway=2001:db8::1\n`)
        expect(files['network-manager']?.[NETWORK_MANAGER]).toContain(`route1=${to},2001:db8::1\n`)
      })

      // The oldest ifupdown runs with any libc that the others run with.
      test.skipIf(noCloudInit('bullseye'))(
        'ifupdown without net-tools gets its default route too',
        async () => {
          const ifup = `${unpacked('bullseye', 'sbin/ifup')} --force --no-scripts --state-dir "$PWD"`
          const { output } = await apply(STATIC, CARDS, [
            'for route in /sbin/route /usr/sbin/route; do [ ! -e $route ] || mount --bind /dev/null $route; done',
            `${ifup} -i eni/${ENI} eth0 >&2`,
            'echo "before: $(ip route show default)"',
            bootCommand(STATIC),
            bootCommand(STATIC),
            'echo "after: $(ip route show default)"',
            'ip -4 -o address show dev eth0',
          ])
          expect(output.split('\n').map((line) => line.trim())).toEqual([
            'before:',
            expect.stringMatching(/^after: default via 192\.0\.2\.1 dev eth0\b/),
            expect.stringContaining('inet 192.0.2.10/24 '),
          ])
        },
      )
    },
  )
}

for (const release of NETPLAN_RELEASES) {
  const missing = noCloudInit(release) || noNetplan(release)
  // What cloud-init has written is what netplan reads.
  const generate = async (network: SeedNetwork) => {
    const { files } = await applyTo(release, network)
    return await generateNetwork(release, files.netplan?.[NETPLAN] ?? '', join(folder, 'guest'))
  }
  /** Lines of one section of networkd's; a section may be there several times. */
  const section = (text: string, name: string) =>
    text
      .split(/^(?=\[)/m)
      .filter((part) => part.startsWith(`[${name}]\n`))
      .flatMap((part) => part.trim().split('\n').slice(1))

  describe.skipIf(missing)(
    `netplan of Debian ${release}, as Ubuntu has it${missing ? ` (skipped: ${missing})` : ''}`,
    () => {
      test('has networkd ask for a lease by the card that has the MAC, and identify by that', async () => {
        const { link, network } = await generate(DHCP)
        expect(section(link, 'Match')).toEqual([`PermanentMACAddress=${MAC}`])
        expect(section(link, 'Link')).toContain('Name=eth0')
        expect(section(network, 'Match')).toEqual([`PermanentMACAddress=${MAC}`, 'Name=eth0'])
        expect(section(network, 'Network')).toContain('DHCP=ipv4')
        expect([...section(network, 'DHCP'), ...section(network, 'DHCPv4')]).toContain('ClientIdentifier=mac')
      })

      test('has it set address, gateway, name servers and MTU, and wait for no IPv6', async () => {
        const { link, network } = await generate(STATIC)
        expect(section(link, 'Link')).toContain('MTUBytes=1450')
        expect(section(network, 'Match')).toContain(`PermanentMACAddress=${MAC}`)
        expect(section(network, 'Network')).toEqual([
          'LinkLocalAddressing=no',
          'Address=192.0.2.10/24',
          'DNS=192.0.2.53',
          'Domains=example.test',
        ])
        expect(section(network, 'Route')).toEqual(['Destination=0.0.0.0/0', 'Gateway=192.0.2.1'])
      })

      test('has it set an IPv6 address and gateway', async () => {
        const { network } = await generate(STATIC6)
        expect(section(network, 'Network')).toEqual(['LinkLocalAddressing=ipv6', 'Address=2001:db8::5/64'])
        expect(section(network, 'Route')).toEqual(['Destination=::/0', 'Gateway=2001:db8::1'])
      })
    },
  )
}

test.skipIf(process.getuid?.() !== 0)(
  'the boot command sets a default route for IPv6, once, and does not fail before there is an address',
  async () => {
    const { stdout } = await execa(
      'unshare',
      ['--net', 'sh', '-ec'].concat(
        [
          'ip link add eth0 type veth peer name peer0',
          bootCommand(STATIC6),
          'ip link set eth0 up',
          'ip address add 2001:db8::5/64 dev eth0 nodad',
          bootCommand(STATIC6),
          bootCommand(STATIC6),
          'ip -6 route show default',
        ].join('\n'),
      ),
    )
    expect(stdout).toMatch(/^default via 2001:db8::1 dev eth0 [^\n]*$/)
  },
)
