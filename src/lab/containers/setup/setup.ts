import type { ContainerSpec, ContainerSystem, Log } from '../../world.ts'
import { setAuthorizedKeys, setPassword } from './accounts.ts'
import { detectArchitecture, detectOsType, detectSystemd } from './detection.ts'
import { setDns } from './dns.ts'
import { prepareFirstBoot } from './first-boot.ts'
import { makeHostKeys } from './host-keys.ts'
import { setHostname, shortName } from './hostname.ts'
import { setInterfaces } from './ifupdown.ts'
import { setNetworkFiles } from './networkd.ts'
import type { Tree } from './tree.ts'

/** What Proxmox does to the files of a new container. */
export async function setUpNew(
  tree: Tree,
  spec: ContainerSpec,
  access: { password?: string; sshPublicKeys?: string; nameserver: string },
  log: Log,
): Promise<ContainerSystem> {
  const arch = await detectArchitecture(tree)
  if (arch === undefined) log(`Architecture detection failed, falling back to ${spec.arch}.`)
  else log(`Detected container architecture: ${arch}`)
  const system = await systemIn(tree, spec)
  if (!isKnown(system)) return system
  // What LXC's own images have for DHCP on eth0 would be read before our file.
  if (system.ostype === 'ubuntu') await tree.remove('/etc/netplan/10-lxc.yaml')
  await configure(tree, spec, system, access.nameserver)
  await setPassword(tree, access.password)
  if (access.sshPublicKeys) await setAuthorizedKeys(tree, access.sshPublicKeys)
  await makeHostKeys(tree, shortName(spec), log)
  await prepareFirstBoot(tree, system.ostype)
  return system
}

/** What Proxmox writes before each start: the configuration may have changed. */
export async function setUp(tree: Tree, spec: ContainerSpec, nameserver: string): Promise<ContainerSystem> {
  const system = await systemIn(tree, spec)
  if (isKnown(system)) await configure(tree, spec, system, nameserver)
  return system
}

/** What Proxmox does to the files of a clone. Its host keys are those of the original. */
export async function setUpClone(tree: Tree, spec: ContainerSpec): Promise<ContainerSystem> {
  const system = await systemIn(tree, spec)
  if (!isKnown(system)) return system
  await setHostname(tree, spec)
  // Empty, not missing: then systemd makes one at the next boot.
  if ((await tree.read('/etc/machine-id')) !== undefined) await tree.write('/etc/machine-id', '')
  await tree.remove('/var/lib/dbus/machine-id')
  return system
}

/** Nothing is looked at where the configuration says that nobody is to look. */
async function systemIn(tree: Tree, spec: ContainerSpec): Promise<ContainerSystem> {
  const system = { ostype: spec.ostype ?? (await detectOsType(tree)) }
  const systemd = isKnown(system) ? await detectSystemd(tree) : undefined
  return { ...system, ...(systemd !== undefined && { systemd }) }
}

async function configure(
  tree: Tree,
  spec: ContainerSpec,
  { ostype }: ContainerSystem,
  nameserver: string,
): Promise<void> {
  await setHostname(tree, spec)
  await setDns(tree, spec, nameserver)
  // Also where a Debian has networkd instead of ifupdown, which then is told nothing.
  if (ostype === 'debian') await setInterfaces(tree, spec.nics)
  else await setNetworkFiles(tree, spec.nics)
}

function isKnown({ ostype }: ContainerSystem): boolean {
  return ostype === 'debian' || ostype === 'ubuntu'
}
