import type { SystemFile } from './bootstrap-files.ts'
import type { BootstrapRecipe } from './bootstrap-recipe.ts'

/**
 * What only a container has. Its network is configured from outside: Proxmox writes the addresses of each card,
 * the host name and resolv.conf into it before each start, and nothing within may answer back.
 */
export function containerFiles({ distribution }: BootstrapRecipe): SystemFile[] {
  return [
    // For a container that has cloud-init: its network is not cloud-init's. Which data sources there are is left to it:
    // without a seed it finds none, and stays off, as it must in a clone.
    { path: '/etc/cloud/cloud.cfg.d/95-network.cfg', content: 'network: { config: disabled }\n' },
    ...(distribution === 'ubuntu' ? [CLIENT_IDENTIFIER] : []),
  ]
}

/**
 * A DHCP server must know a container by its MAC. By default networkd sends an identifier made of the machine-id,
 * which every new container has anew. eth0 is the name that Proxmox gives the first card.
 */
const CLIENT_IDENTIFIER: SystemFile = {
  path: '/etc/systemd/network/eth0.network.d/10-client-identifier.conf',
  content: '[DHCPv4]\nClientIdentifier=mac\n',
}

/**
 * The same for dhclient, which has no folder for drop-ins: ifupdown calls it with -i, an identifier that
 * is made up anew wherever there is no lease yet. What is written here counts more than -i.
 */
const DHCLIENT = '"$1"/etc/dhcp/dhclient.conf'
const IDENTIFY_BY_MAC = `printf 'send dhcp-client-identifier = hardware;\\n' >> ${DHCLIENT}`

/** What the root of an unprivileged container may never do, and these units would try and fail: debugfs, modules. */
const MASK = 'chroot "$1" systemctl --quiet mask sys-kernel-debug.mount systemd-modules-load.service'

/** systemd-resolved would answer on an address of its own, beside the resolv.conf that Proxmox writes. */
const DISABLE_RESOLVED = 'chroot "$1" systemctl --quiet disable systemd-resolved.service 2>/dev/null || true'
const ENABLE_NETWORKD = 'chroot "$1" systemctl --quiet enable systemd-networkd.service'

/** Commands for mmdebstrap's customize hook, in order. */
export function containerHooks({ distribution }: BootstrapRecipe): string[] {
  return [MASK, ...(distribution === 'debian' ? [IDENTIFY_BY_MAC] : [DISABLE_RESOLVED, ENABLE_NETWORKD])]
}
