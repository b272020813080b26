import type { ContainerSpec } from '../../world.ts'
import { withManagedBlock } from './managed-block.ts'
import type { Tree } from './tree.ts'

/** The hostname without its domain. */
export function shortName(spec: ContainerSpec): string {
  return spec.hostname.replace(/\..*$/, '')
}

/** /etc/hostname, and an entry in /etc/hosts with the first static address, else with Debian's 127.0.1.1. */
export async function setHostname(tree: Tree, spec: ContainerSpec): Promise<void> {
  const name = shortName(spec)
  const domain = spec.hostname.slice(name.length + 1) || spec.searchdomain?.split(/[\s,;]+/)[0]
  await tree.write('/etc/hostname', `${name}\n`)
  const hosts = (await tree.read('/etc/hosts')) ?? '127.0.0.1 localhost\n::1 localhost ip6-localhost\n'
  const address = spec.nics.map(({ ip }) => /^([\d.]+)\/\d+$/.exec(ip ?? '')?.[1]).find(Boolean)
  const names = domain ? `${name}.${domain} ${name}` : name
  await tree.write('/etc/hosts', withManagedBlock(hosts, [`${address ?? '127.0.1.1'} ${names}`]))
}
