import {
  allOptional,
  boolean,
  formatted,
  integer,
  number,
  numbered,
  oneOf,
  properties,
  type Rules,
  string,
} from '../parameters.ts'
import type { PropertyFormat } from '../property-string.ts'

/** A container's options, as `pct` and the API name them: what create and config accept. */

export const NET_FORMAT: PropertyFormat = {
  properties: {
    name: string({ pattern: /^[-_.\w]+$/ }),
    ...allOptional({
      bridge: string({ pattern: /^[-_.\w]+$/ }),
      firewall: boolean(),
      gw: formatted('ipv4'),
      gw6: formatted('ipv6'),
      hwaddr: formatted('mac'),
      ip: formatted('ipv4-config'),
      ip6: formatted('ipv6-config'),
      link_down: boolean(),
      mtu: integer({ minimum: 64, maximum: 65535 }),
      rate: number(),
      tag: integer({ minimum: 1, maximum: 4094 }),
      trunks: string({ pattern: /^\d+(?:;\d+)*$/ }),
      type: oneOf('veth'),
    }),
  },
}

const MOUNT_OPTION = '(?:discard|lazytime|noatime|nodev|noexec|nosuid)'
const VOLUME: Rules = {
  volume: string(),
  ...allOptional({
    acl: boolean(),
    mountoptions: string({ pattern: new RegExp(`^${MOUNT_OPTION}(?:;${MOUNT_OPTION})*$`) }),
    quota: boolean(),
    replicate: boolean(),
    ro: boolean(),
    shared: boolean(),
    size: formatted('disk-size'),
  }),
}

export const ROOT_FORMAT: PropertyFormat = { defaultKey: 'volume', properties: VOLUME }

const MOUNT_POINT_FORMAT: PropertyFormat = {
  defaultKey: 'volume',
  properties: { ...VOLUME, mp: string(), ...allOptional({ backup: boolean() }) },
}

export const FEATURES_FORMAT: PropertyFormat = {
  properties: allOptional({
    force_rw_sys: boolean(),
    fuse: boolean(),
    keyctl: boolean(),
    mknod: boolean(),
    mount: string({ pattern: /^[a-zA-Z0-9_; ]+$/ }),
    nesting: boolean(),
  }),
}

const DEVICE_FORMAT: PropertyFormat = {
  defaultKey: 'path',
  properties: allOptional({
    'deny-write': boolean(),
    gid: integer({ minimum: 0 }),
    mode: string({ pattern: /^0[0-7]{3}$/ }),
    path: string({ pattern: /^\/dev\/.+$/ }),
    uid: integer({ minimum: 0 }),
  }),
}

/** What a container's configuration holds; all optional. */
export const CONTAINER_OPTIONS: Rules = allOptional({
  arch: oneOf('amd64', 'i386', 'arm64', 'armhf', 'riscv32', 'riscv64'),
  cmode: oneOf('shell', 'console', 'tty'),
  console: boolean(),
  cores: integer({ minimum: 1, maximum: 8192 }),
  cpulimit: number({ minimum: 0, maximum: 8192 }),
  cpuunits: integer({ minimum: 0, maximum: 500000 }),
  debug: boolean(),
  description: string({ maxLength: 8192 }),
  ...numbered('dev', 256, properties(DEVICE_FORMAT)),
  entrypoint: string(),
  env: string(),
  features: properties(FEATURES_FORMAT),
  hookscript: formatted('volume'),
  hostname: formatted('dns-name', { maxLength: 255 }),
  lock: oneOf(
    ...['backup', 'create', 'destroyed', 'disk', 'fstrim', 'migrate', 'mounted', 'rollback', 'snapshot'],
    'snapshot-delete',
  ),
  memory: integer({ minimum: 16 }),
  ...numbered('mp', 256, properties(MOUNT_POINT_FORMAT)),
  nameserver: formatted('ip-list'),
  ...numbered('net', 32, properties(NET_FORMAT)),
  onboot: boolean(),
  ostype: oneOf(
    ...['debian', 'devuan', 'ubuntu', 'centos', 'fedora', 'opensuse', 'archlinux', 'alpine', 'gentoo'],
    ...['nixos', 'unmanaged'],
  ),
  protection: boolean(),
  rootfs: properties(ROOT_FORMAT),
  searchdomain: formatted('dns-name-list'),
  startup: string({ pattern: /^(?:(?:order=)?\d+|up=\d+|down=\d+)(?:,(?:order=\d+|up=\d+|down=\d+))*$/ }),
  swap: integer({ minimum: 0 }),
  tags: formatted('tag-list'),
  template: boolean(),
  timezone: string({ pattern: /^[\w+/-]+$/ }),
  tty: integer({ minimum: 0, maximum: 6 }),
  unprivileged: boolean(),
  ...numbered('unused', 256, formatted('volume')),
})
