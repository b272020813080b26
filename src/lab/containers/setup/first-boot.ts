import type { Tree } from './tree.ts'

/** Which units Proxmox wants and does not want in a container. */
const COMMON = [
  'enable container-getty@.service',
  'disable getty@.service',
  'disable sys-kernel-config.mount',
  'disable sys-kernel-debug.mount',
]

/**
 * A new container's machine-id is missing, not empty: systemd then takes its next boot for the first, and enables units by
 * their presets. Debian has ifupdown for its network, Ubuntu networkd.
 */
export async function prepareFirstBoot(tree: Tree, ostype: string): Promise<void> {
  const networkd = `${ostype === 'debian' ? 'disable' : 'enable'} systemd-networkd.service`
  await tree.write('/etc/systemd/system-preset/00-pve.preset', `${[...COMMON, networkd].join('\n')}\n`)
  await tree.remove('/etc/machine-id')
  await tree.remove('/var/lib/dbus/machine-id')
}
