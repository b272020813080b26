import type { ContainerNic } from '../../world.ts'
import type { Tree } from './tree.ts'

/** Ubuntu's systemd-networkd: one file per interface. */
export async function setNetworkFiles(tree: Tree, nics: readonly ContainerNic[]): Promise<void> {
  for (const nic of nics) await tree.write(`/etc/systemd/network/${nic.name}.network`, networkFile(nic))
}

function networkFile({ name, ip, gw, ip6, gw6, options }: ContainerNic): string {
  const is4 = ip === 'dhcp'
  const is6 = ip6 === 'dhcp'
  const fixed = [ip, ip6].filter((address) => address?.includes('/'))
  const gateways = [ip?.includes('/') && gw, ip6?.includes('/') && gw6].filter(Boolean)
  return [
    '[Match]',
    `Name = ${name}`,
    '',
    ...(options.mtu ? ['[Link]', `MTUBytes = ${options.mtu}`, ''] : []),
    '[Network]',
    `DHCP = ${is4 && is6 ? 'yes' : is4 ? 'ipv4' : is6 ? 'ipv6' : 'no'}`,
    `IPv6AcceptRA = ${ip6 === 'auto' || is6}`,
    ...fixed.map((address) => `Address = ${address}`),
    ...gateways.map((gateway) => `Gateway = ${gateway}`),
    '',
  ].join('\n')
}
