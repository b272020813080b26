import {
  type CloudConfig,
  type CloudConfigBuilder,
  type CloudHostKey,
  cloudConfig,
  toYaml,
} from './cloud-config.ts'
import { iso9660 } from './iso9660.ts'
import { networkConfig, type SeedNetwork } from './network-config.ts'

/**
 * The seed of a guest that is being built: a NoCloud volume, which cloud-init finds by its label. It holds
 * ephemeral keys only, and nothing that would have to wait for the network.
 */

export interface SeedOptions {
  /** new for every guest, so that cloud-init takes this as a first boot */
  instanceId: string
  hostname: string
  /** the user that builds: root by sudo, no password, this key */
  user: { name: string; authorizedKey: string }
  /** the guest's host key, which the session pins */
  hostKey: CloudHostKey
  network: SeedNetwork
  /** the definition's own cloud-config, by name */
  fragments?: readonly { name: string; config: CloudConfig }[]
  /** install and start qemu-guest-agent; for images that lack it, as it costs a package list update */
  guestAgent?: boolean
  /** date of the volume's files; default SOURCE_DATE_EPOCH, else 1970 */
  date?: Date
}

/** The label by which ds-identify and DataSourceNoCloud look for it. */
const VOLUME_ID = 'cidata'

/** How imagebuild's own part is called where a fragment contradicts it. */
const OURS = "imagebuild's own seed"

/**
 * The ISO image.
 * @throws ImagebuildError `definition_invalid` if a fragment contradicts another or what the build needs
 */
export function renderSeed(options: SeedOptions): Buffer {
  const files = [
    { name: 'user-data', content: userData(options).render() },
    {
      name: 'meta-data',
      content: toYaml({ 'instance-id': options.instanceId, 'local-hostname': options.hostname }),
    },
    { name: 'network-config', content: toYaml(networkConfig(options.network)) },
  ]
  return iso9660(
    VOLUME_ID,
    files,
    options.date ?? new Date(Number(process.env.SOURCE_DATE_EPOCH ?? 0) * 1000),
  )
}

/**
 * What of it is ours, and why so little:
 *
 * - `ssh_pwauth: false` is left out: cloud-init would write sshd_config.d/50-cloud-init.conf into the image
 *   and restart sshd at the moment when we log in (cc_set_passwords); the only user that it makes has no password.
 * - package lists, upgrades, growing of the disk, apt pipelining: cloud-init's and the image's defaults.
 * - `manage_etc_hosts: localhost` adds one line to /etc/hosts, without which sudo asks the network for the
 *   guest's own name at each call. Sealing removes the line.
 * - `bootcmd` where an address has a gateway: for ifupdown cloud-init writes the default route as `route add … || true`,
 *   which goes unnoticed where there is no `route` (net-tools); and up to 22.4 it makes ::/64 of ::/0 for all but netplan.
 */
export function userData(options: SeedOptions): CloudConfigBuilder {
  const builder = cloudConfig()
    .user(
      // dash starts faster than bash and reads no files; commands name their shell if they want another.
      { name: options.user.name, authorizedKeys: [options.user.authorizedKey], sudo: true, shell: '/bin/sh' },
      OURS,
    )
    .sshHostKey(options.hostKey, OURS)
    .merge({ ssh_deletekeys: true, disable_root: true }, OURS)
  const gateway = options.network.kind === 'static' ? options.network.gateway : undefined
  if (gateway !== undefined) builder.merge({ bootcmd: [defaultRoute(gateway)] }, OURS)
  for (const { name, config } of options.fragments ?? []) builder.merge(config, name)
  if (options.guestAgent) {
    // The package's unit is started by udev when the port appears, which was before it was installed.
    builder
      .packages('qemu-guest-agent')
      .runCommand(['systemctl', 'start', '--no-block', 'qemu-guest-agent.service'])
  }
  return builder.orElse({ manage_etc_hosts: 'localhost', ...DEFAULTS }, OURS)
}

/** Sets the default route if there is none. Does not fail: the network may be one that comes up later by itself. */
function defaultRoute(gateway: string): string[] {
  const ip = gateway.includes(':') ? 'ip -6' : 'ip -4'
  return [
    'sh',
    '-c',
    `${ip} route show default | grep -q . || ${ip} route add default via "$0" || true`,
    gateway,
  ]
}

/** What fragments may have otherwise. */
const DEFAULTS: CloudConfig = {
  preserve_hostname: false,
  package_update: false,
  package_upgrade: false,
  // Printing keys and fingerprints on the console takes seconds in an emulated guest.
  no_ssh_fingerprints: true,
  ssh: { emit_keys_to_console: false },
  ssh_publish_hostkeys: { enabled: false },
}

export interface ContainerSeedOptions {
  hostname: string
  fragments: readonly { name: string; config: CloudConfig }[]
}

/**
 * The same for a container: files of its own tree, since it has no drive. The same for every build of one definition,
 * as Proxmox brings what is not: root's key, host keys (which must stay: their fingerprints are known), name and
 * network.
 * @throws ImagebuildError `definition_invalid` as `renderSeed`
 */
export function containerSeed({
  hostname,
  fragments,
}: ContainerSeedOptions): { path: string; content: string }[] {
  const builder = cloudConfig().merge({ users: [], ssh_deletekeys: false, disable_root: false }, OURS)
  for (const { name, config } of fragments) builder.merge(config, name)
  // Proxmox writes /etc/hosts.
  builder.orElse({ manage_etc_hosts: false, ...DEFAULTS }, OURS)
  const seed = '/var/lib/cloud/seed/nocloud'
  return [
    { path: `${seed}/user-data`, content: builder.render() },
    {
      path: `${seed}/meta-data`,
      content: toYaml({ 'instance-id': 'imagebuild', 'local-hostname': hostname }),
    },
    { path: '/etc/cloud/cloud.cfg.d/99-imagebuild-network.cfg', content: 'network: { config: disabled }\n' },
  ]
}
