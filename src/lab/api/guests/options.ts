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

/** A VM's options, as `qm` and the API name them: what create and config accept. */

const MODELS = [
  'e1000',
  'e1000-82540em',
  'e1000-82544gc',
  'e1000-82545em',
  'e1000e',
  'i82551',
  'i82557b',
  'i82559er',
  'ne2k_isa',
  'ne2k_pci',
  'pcnet',
  'rtl8139',
  'virtio',
  'vmxnet3',
]

export const NET_FORMAT: PropertyFormat = {
  defaultKey: 'model',
  keyAliases: { keys: MODELS, key: 'model', value: 'macaddr' },
  properties: {
    model: oneOf(...MODELS),
    ...allOptional({
      bridge: formatted('bridge'),
      firewall: boolean(),
      link_down: boolean(),
      macaddr: formatted('mac'),
      mtu: integer({ minimum: 1, maximum: 65520 }),
      queues: integer({ minimum: 0, maximum: 64 }),
      rate: number({ minimum: 0 }),
      tag: integer({ minimum: 1, maximum: 4094 }),
      trunks: string({ pattern: /^\d+(?:-\d+)?(?:;\d+(?:-\d+)?)*$/ }),
    }),
  },
}

const THROTTLES: Rules = {
  ...Object.fromEntries(['bps', 'bps_rd', 'bps_wr'].map((key) => [key, integer()])),
  ...Object.fromEntries(
    ['iops', 'iops_max', 'iops_rd', 'iops_rd_max', 'iops_wr', 'iops_wr_max'].map((key) => [key, integer()]),
  ),
  ...Object.fromEntries(
    ['bps', 'bps_rd', 'bps_wr', 'iops', 'iops_rd', 'iops_wr'].map((key) => [
      `${key}_max_length`,
      integer({ minimum: 1 }),
    ]),
  ),
  ...Object.fromEntries(
    ['mbps', 'mbps_max', 'mbps_rd', 'mbps_rd_max', 'mbps_wr', 'mbps_wr_max'].map((key) => [key, number()]),
  ),
}

const FILE: Rules = { file: formatted('volume-or-path') }
const IMAGE: Rules = {
  format: oneOf('raw', 'qcow', 'qed', 'qcow2', 'vmdk', 'cloop'),
  'import-from': formatted('volume-or-path'),
  size: formatted('disk-size'),
}
const DRIVE: Rules = {
  ...IMAGE,
  ...THROTTLES,
  aio: oneOf('native', 'threads', 'io_uring'),
  backup: boolean(),
  cache: oneOf('none', 'writethrough', 'writeback', 'unsafe', 'directsync'),
  cyls: integer(),
  detect_zeroes: boolean(),
  discard: oneOf('ignore', 'on'),
  heads: integer(),
  media: oneOf('cdrom', 'disk'),
  replicate: boolean(),
  rerror: oneOf('ignore', 'report', 'stop'),
  secs: integer(),
  serial: formatted('urlencoded', { maxLength: 60 }),
  shared: boolean(),
  snapshot: boolean(),
  trans: oneOf('none', 'lba', 'auto'),
  werror: oneOf('enospc', 'ignore', 'report', 'stop'),
}
const WWN: Rules = { wwn: string({ pattern: /^0x[0-9a-fA-F]{16}/ }) }

function driveFormat(more: Rules, base: Rules = DRIVE): PropertyFormat {
  return {
    defaultKey: 'file',
    aliases: {
      volume: 'file',
      ...Object.fromEntries(
        ['bps_rd', 'bps_wr', 'iops_rd', 'iops_wr'].map((key) => [`${key}_length`, `${key}_max_length`]),
      ),
    },
    properties: { ...FILE, ...allOptional({ ...base, ...more }) },
  }
}

/** Format of a drive's value, by the bus in its name. */
export const DRIVE_FORMATS = {
  ide: driveFormat({ ...WWN, ssd: boolean(), model: formatted('urlencoded', { maxLength: 120 }) }),
  sata: driveFormat({ ...WWN, ssd: boolean() }),
  scsi: driveFormat({
    ...WWN,
    ssd: boolean(),
    iothread: boolean(),
    product: string({ pattern: /^[A-Za-z0-9\-_\s]{0,16}$/ }),
    queues: integer({ minimum: 2 }),
    ro: boolean(),
    scsiblock: boolean(),
    vendor: string({ pattern: /^[A-Za-z0-9\-_\s]{0,8}$/ }),
  }),
  virtio: driveFormat({ iothread: boolean(), ro: boolean() }),
  efidisk: driveFormat(
    {
      efitype: oneOf('2m', '4m'),
      'pre-enrolled-keys': boolean(),
      'ms-cert': oneOf('2011', '2023', '2023w', '2023k'),
    },
    IMAGE,
  ),
  tpmstate: driveFormat(
    { version: oneOf('v1.2', 'v2.0') },
    { 'import-from': formatted('volume-or-path'), size: formatted('disk-size') },
  ),
} satisfies Record<string, PropertyFormat>

export type Bus = keyof typeof DRIVE_FORMATS

export const AGENT_FORMAT: PropertyFormat = {
  defaultKey: 'enabled',
  properties: {
    enabled: boolean(),
    ...allOptional({
      'freeze-fs-on-backup': boolean(),
      fstrim_cloned_disks: boolean(),
      type: oneOf('virtio', 'isa'),
    }),
  },
}

export const VGA_FORMAT: PropertyFormat = {
  defaultKey: 'type',
  properties: allOptional({
    clipboard: oneOf('vnc'),
    memory: integer({ minimum: 4, maximum: 512 }),
    type: oneOf(
      ...['cirrus', 'qxl', 'qxl2', 'qxl3', 'qxl4', 'none', 'serial0', 'serial1', 'serial2', 'serial3'],
      ...['std', 'virtio', 'virtio-gl', 'vmware'],
    ),
  }),
}

export const CPU_FORMAT: PropertyFormat = {
  defaultKey: 'cputype',
  properties: allOptional({
    cputype: string({ pattern: /^[\w.-]+$/ }),
    flags: string({ pattern: /^[+-][\w.-]+(?:;[+-][\w.-]+)*$/ }),
    hidden: boolean(),
    'hv-vendor-id': string({ pattern: /^[a-zA-Z0-9]{1,12}$/ }),
    'phys-bits': string({ pattern: /^(?:host|\d+)$/ }),
    'reported-model': string({ pattern: /^[\w.-]+$/ }),
  }),
}

export const MACHINE_FORMAT: PropertyFormat = {
  defaultKey: 'type',
  properties: allOptional({
    type: string({
      maxLength: 40,
      pattern:
        /^(?:pc|pc(?:-i440fx)?-\d+(?:\.\d+)+(?:\+pve\d+)?(?:\.pxe)?|q35|pc-q35-\d+(?:\.\d+)+(?:\+pve\d+)?(?:\.pxe)?|virt(?:-\d+(?:\.\d+)+)?(?:\+pve\d+)?)$/,
    }),
    'enable-s3': boolean(),
    'enable-s4': boolean(),
    viommu: oneOf('intel', 'virtio'),
  }),
}

const MEMORY_FORMAT: PropertyFormat = {
  defaultKey: 'current',
  properties: { current: integer({ minimum: 16 }) },
}
const CICUSTOM_FORMAT: PropertyFormat = {
  properties: allOptional(
    Object.fromEntries(['meta', 'network', 'user', 'vendor'].map((key) => [key, formatted('volume')])),
  ),
}
const RNG_FORMAT: PropertyFormat = {
  defaultKey: 'source',
  properties: {
    source: oneOf('/dev/urandom', '/dev/random', '/dev/hwrng'),
    ...allOptional({ max_bytes: integer(), period: integer() }),
  },
}
const USB_FORMAT: PropertyFormat = {
  defaultKey: 'host',
  properties: allOptional({
    host: string({ pattern: /^(?:(?:0x)?[0-9A-Fa-f]{4}:(?:0x)?[0-9A-Fa-f]{4}|\d+-\d+(?:\.\d+)*|spice)$/i }),
    mapping: formatted('configid'),
    usb3: boolean(),
  }),
}
export const SMBIOS_FORMAT: PropertyFormat = {
  properties: allOptional({
    uuid: string({ pattern: /^[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}$/ }),
    base64: boolean(),
    ...Object.fromEntries(
      ['family', 'manufacturer', 'product', 'serial', 'sku', 'version'].map((key) => [key, string()]),
    ),
  }),
}

const KEYBOARDS =
  'de de-ch da en-gb en-us es fi fr fr-be fr-ca fr-ch hu is it ja lt mk nl no pl pt pt-br sv sl tr'.split(' ')

/** What the guest configuration holds; all optional. */
export const GUEST_OPTIONS: Rules = allOptional({
  acpi: boolean(),
  affinity: string(),
  'allow-ksm': boolean(),
  agent: properties(AGENT_FORMAT),
  'amd-sev': string(),
  arch: oneOf('x86_64', 'aarch64'),
  args: string(),
  audio0: string(),
  autostart: boolean(),
  balloon: integer({ minimum: 0 }),
  bios: oneOf('seabios', 'ovmf'),
  boot: formatted('boot'),
  bootdisk: string({ pattern: /^(?:ide|sata|scsi|virtio)\d+$/ }),
  cdrom: properties(DRIVE_FORMATS.ide),
  cicustom: properties(CICUSTOM_FORMAT),
  cipassword: string(),
  citype: oneOf('configdrive2', 'nocloud', 'opennebula'),
  ciupgrade: boolean(),
  ciuser: string(),
  cores: integer({ minimum: 1 }),
  cpu: properties(CPU_FORMAT),
  cpulimit: number({ minimum: 0, maximum: 128 }),
  cpuunits: integer({ minimum: 1, maximum: 262144 }),
  description: string({ maxLength: 8192 }),
  efidisk0: properties(DRIVE_FORMATS.efidisk),
  freeze: boolean(),
  hookscript: formatted('volume'),
  ...numbered('hostpci', 16, string()),
  hotplug: string(),
  hugepages: oneOf('any', '2', '1024'),
  ...numbered('ide', 4, properties(DRIVE_FORMATS.ide)),
  ...numbered('ipconfig', 32, formatted('ipconfig')),
  'intel-tdx': string(),
  ivshmem: string(),
  keephugepages: boolean(),
  keyboard: oneOf(...KEYBOARDS),
  kvm: boolean(),
  localtime: boolean(),
  lock: oneOf(
    ...['backup', 'clone', 'create', 'migrate', 'rollback', 'snapshot', 'snapshot-delete'],
    ...['suspending', 'suspended'],
  ),
  machine: properties(MACHINE_FORMAT),
  memory: properties(MEMORY_FORMAT),
  migrate_downtime: number({ minimum: 0 }),
  migrate_speed: integer({ minimum: 0 }),
  name: formatted('dns-name'),
  nameserver: formatted('address-list'),
  ...numbered('net', 32, properties(NET_FORMAT)),
  numa: boolean(),
  ...numbered('numa', 8, string()),
  onboot: boolean(),
  ostype: oneOf(
    ...['other', 'wxp', 'w2k', 'w2k3', 'w2k8', 'wvista', 'win7', 'win8', 'win10', 'win11'],
    ...['l24', 'l26', 'solaris'],
  ),
  ...numbered('parallel', 3, string({ pattern: /^(?:\/dev\/parport\d+|\/dev\/usb\/lp\d+)$/ })),
  protection: boolean(),
  reboot: boolean(),
  rng0: properties(RNG_FORMAT),
  ...numbered('sata', 6, properties(DRIVE_FORMATS.sata)),
  ...numbered('scsi', 31, properties(DRIVE_FORMATS.scsi)),
  scsihw: oneOf('lsi', 'lsi53c810', 'virtio-scsi-pci', 'virtio-scsi-single', 'megasas', 'pvscsi'),
  searchdomain: string(),
  ...numbered('serial', 4, string({ pattern: /^(?:\/dev\/.+|socket)$/ })),
  shares: integer({ minimum: 0, maximum: 50000 }),
  smbios1: { ...properties(SMBIOS_FORMAT), maxLength: 512 },
  smp: integer({ minimum: 1 }),
  sockets: integer({ minimum: 1 }),
  spice_enhancements: string(),
  sshkeys: formatted('urlencoded'),
  startdate: string({ pattern: /^(?:now|\d{4}-\d{1,2}-\d{1,2}(?:T\d{1,2}:\d{1,2}:\d{1,2})?)$/ }),
  startup: string({ pattern: /^(?:(?:order=)?\d+|up=\d+|down=\d+)(?:,(?:order=\d+|up=\d+|down=\d+))*$/ }),
  tablet: boolean(),
  tags: formatted('tag-list'),
  tdf: boolean(),
  template: boolean(),
  tpmstate0: properties(DRIVE_FORMATS.tpmstate),
  ...numbered('unused', 256, formatted('volume')),
  ...numbered('usb', 14, properties(USB_FORMAT)),
  vcpus: integer({ minimum: 1 }),
  vga: properties(VGA_FORMAT),
  ...numbered('virtio', 16, properties(DRIVE_FORMATS.virtio)),
  ...numbered('virtiofs', 10, string()),
  vmgenid: string({ pattern: /^(?:[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}|[01])$/ }),
  vmstatestorage: formatted('storage'),
  watchdog: string(),
})
