import { existsSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import type { LabNames } from '../names.ts'
import type { ContainerSpec } from '../world.ts'
import { groupsOf, hasControl, isUnified } from './cgroups.ts'
import type { ContainerFiles } from './container-files.ts'
import { idMap } from './id-map.ts'
import { MOUNT_POINT } from './mounted-root.ts'

const MiB = 1 << 20

/** Device nodes that a privileged container may use: type, number, what for. Others it may make, but not open. */
const DEVICES = [
  ...['c *:* m', 'b *:* m'],
  // null, zero, full, random, urandom; tty, console, ptmx, the pseudo terminals
  ...['c 1:3 rwm', 'c 1:5 rwm', 'c 1:7 rwm', 'c 1:8 rwm', 'c 1:9 rwm'],
  ...['c 5:0 rwm', 'c 5:1 rwm', 'c 5:2 rwm', 'c 136:* rwm'],
]

const FUSE = 'c 10:229 rwm'

/** What no container needs, and a privileged one could harm the node with. */
const DROPPED = 'mac_admin mac_override sys_time sys_module sys_rawio'

export interface LxcConfigOptions {
  names: LabNames
  files: ContainerFiles
  /** the Linux bridge behind a bridge of the configuration */
  bridge(name: string): string
}

/**
 * LXC's configuration of a container, whole: Debian's common.conf would include whatever others have put on this
 * machine, and hooks that need a PATH.
 */
export function lxcConfig(spec: ContainerSpec, { names, files, bridge }: LxcConfigOptions): string {
  const name = names.container(spec.vmid)
  const groups = groupsOf(name)
  const lines = [
    `lxc.uts.name = ${spec.hostname.replace(/\..*$/, '')}`,
    `lxc.arch = ${spec.arch}`,
    `lxc.rootfs.path = dir:${MOUNT_POINT}`,
    ...idMap(spec.unprivileged),
    `lxc.cgroup.dir.monitor = ${groups.monitor}`,
    `lxc.cgroup.dir.container = ${groups.payload}`,
    `lxc.cgroup.dir.monitor.pivot = ${groups.pivot}`,
    ...['lxc.tty.max = 2', 'lxc.pty.max = 1024'],
    `lxc.console.logfile = ${files.consoleLog}`,
    `lxc.seccomp.profile = ${files.seccomp}`,
    ...rights(spec),
    ...features(spec),
    ...limits(spec),
    ...spec.nics.flatMap((nic, index) => [
      `lxc.net.${index}.type = veth`,
      `lxc.net.${index}.link = ${bridge(nic.bridge)}`,
      `lxc.net.${index}.veth.pair = ${names.tap(spec.vmid, nic.slot)}`,
      `lxc.net.${index}.name = ${nic.name}`,
      `lxc.net.${index}.hwaddr = ${nic.mac.toLowerCase()}`,
      ...(nic.options.mtu ? [`lxc.net.${index}.mtu = ${nic.options.mtu}`] : []),
    ]),
    // Without any it would share the node's network.
    ...(spec.nics.length === 0 ? ['lxc.net.0.type = empty'] : []),
  ]
  for (const line of lines) if (/[\n\0]/.test(line)) throw new Error(`invalid configuration: ${line}`)
  return `${lines.join('\n')}\n`
}

/** System calls that no container gets; Proxmox denies kernel keyrings to unprivileged ones unless asked for. */
export function seccompProfile({ unprivileged, features: { keyctl } }: ContainerSpec): string {
  const common = readFileSync('/usr/share/lxc/config/common.seccomp', 'utf8').trimEnd()
  return `${[common, ...(unprivileged && !keyctl ? ['keyctl errno 38'] : [])].join('\n')}\n`
}

/** In an unprivileged container the kernel itself knows what its root may not do. */
function rights({ unprivileged, features: { nesting, fuse } }: ContainerSpec): string[] {
  const armor = hasAppArmor()
  const common = [
    `lxc.apparmor.profile = ${armor ? 'generated' : 'unconfined'}`,
    ...(armor && nesting ? ['lxc.apparmor.allow_nesting = 1'] : []),
    // A writable /sys would make networkd wait for a udev that is not there.
    'lxc.mount.auto = cgroup:mixed proc:mixed sys:mixed',
  ]
  if (unprivileged) return common
  const key = isUnified() ? 'lxc.cgroup2.devices' : 'lxc.cgroup.devices'
  const devices = [...DEVICES, ...(fuse ? [FUSE] : [])]
  return [
    ...common,
    `lxc.cap.drop = ${DROPPED}`,
    `${key}.deny = a`,
    ...devices.map((device) => `${key}.allow = ${device}`),
  ]
}

function features({ features: { nesting, fuse } }: ContainerSpec): string[] {
  return [
    // The kernel lets a container mount its own proc and sys only where it sees them uncovered somewhere.
    ...(nesting
      ? [
          'lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0',
          'lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0',
        ]
      : []),
    ...(fuse ? ['lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file,optional 0 0'] : []),
  ]
}

function limits({ vmid, memory, swap, cores }: ContainerSpec): string[] {
  const bytes = memory * MiB
  const all = cpus().length
  // Which processors is all the same; by VMID, so that not all take the first ones.
  const chosen = Array.from({ length: Math.min(cores ?? all, all) }, (_, index) => (vmid + index) % all)
  const processors = chosen.sort((a, b) => a - b).join(',')
  if (isUnified()) {
    return [
      `lxc.cgroup2.memory.max = ${bytes}`,
      `lxc.cgroup2.memory.swap.max = ${swap * MiB}`,
      ...(cores === undefined ? [] : [`lxc.cgroup2.cpuset.cpus = ${processors}`]),
    ]
  }
  return [
    ...(hasControl('memory', 'memory.limit_in_bytes') ? [`lxc.cgroup.memory.limit_in_bytes = ${bytes}`] : []),
    ...(hasControl('memory', 'memory.memsw.limit_in_bytes')
      ? [`lxc.cgroup.memory.memsw.limit_in_bytes = ${bytes + swap * MiB}`]
      : []),
    ...(cores !== undefined && hasControl('cpuset', 'cpuset.cpus')
      ? [`lxc.cgroup.cpuset.cpus = ${processors}`]
      : []),
  ]
}

function hasAppArmor(): boolean {
  return existsSync('/sys/kernel/security/apparmor/profiles')
}
