import { z } from 'zod'
import {
  checksum,
  duration,
  environmentName,
  fragmentName,
  guestPath,
  httpsEndpoint,
  httpUrl,
  ipv4,
  ipv4Range,
  name,
  packageName,
  relativePath,
  secretReference,
  size,
  user,
  vmidRange,
} from './formats.ts'
import { exactlyOne, needs, notBoth, onlyBeside, onlyWhere, withRules } from './rules.ts'

/**
 * The language of imagebuild.yaml and images/<name>/image.yaml. Both JSON Schemas in schemas/ are generated
 * from here (`imagebuild schema`), so what an editor suggests is what the loader accepts.
 *
 * Names are Proxmox's own wherever it has one. Every `describe` is shown by editors.
 */

export const architecture = z.enum(['amd64', 'arm64'])
export type Architecture = z.infer<typeof architecture>

const bootstrap = z.strictObject({
  distribution: z.enum(['debian', 'ubuntu']),
  suite: z.string().regex(/^[a-z]+$/, 'must be a suite such as bookworm or noble'),
  mirror: httpUrl.optional().describe('package mirror; the distribution’s own when missing'),
  packages: z.array(packageName).default([]).describe('packages on top of the bootable minimum'),
})

const source = withRules(
  z.strictObject({
    release: z
      .string()
      .optional()
      .describe('a cloud image from the catalog: debian/12, ubuntu/24.04-minimal, …'),
    url: z.string().optional().describe('any disk image: https://…, http://… or file:…; needs a checksum'),
    checksum: checksum.optional().describe('sha256:… or sha512:… of the bytes behind `url`'),
    format: z
      .enum(['qcow2', 'raw', 'qcow2.xz', 'raw.xz', 'qcow2.zst', 'raw.zst'])
      .optional()
      .describe('of `url`; guessed from its name when missing'),
    bootstrap: bootstrap.optional().describe('built from the distribution’s packages'),
    image: name.optional().describe('another image of ours: starts from its current template'),
    architecture: architecture.default('amd64'),
    fallback: z
      .literal('bootstrap')
      .optional()
      .describe('where the cloud image cannot be reached: the same release from its packages'),
  }),
  exactlyOne(['release', 'url', 'bootstrap', 'image'], 'a source is one thing'),
  needs('url', 'checksum'),
  onlyBeside('checksum', 'url'),
  onlyBeside('format', 'url'),
  onlyBeside('fallback', 'release'),
)

const hardware = withRules(
  z.strictObject({
    cores: z.int().min(1).max(512).default(1),
    sockets: z.int().min(1).max(4).default(1),
    cpu: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9_.+,=;-]*$/, 'must be a CPU type that Proxmox knows')
      .default('x86-64-v2-AES')
      .describe('as Proxmox writes it: x86-64-v2-AES, host, max, …; max for arm64 when missing'),
    memory: z.int().min(64).max(4_194_304).default(1024).describe('MiB'),
    disk: size.optional().describe('size of the template’s disk; the source’s own when missing'),
    bios: z
      .enum(['seabios', 'ovmf'])
      .default('seabios')
      .describe('ovmf is UEFI; arm64 has nothing else, and gets it when missing'),
    machine: z
      .string()
      .regex(/^[a-z0-9.+-]+$/, 'must be a machine type that Proxmox knows: q35, pc-i440fx-9.0')
      .optional()
      .describe('q35, pc, …; Proxmox’s default when missing'),
    efidisk: z
      .strictObject({
        efitype: z.enum(['2m', '4m']).default('4m'),
        'pre-enrolled-keys': z.boolean().default(false).describe('Secure Boot with Microsoft’s keys'),
      })
      .optional()
      .describe('only with bios: ovmf, which gets one anyway'),
    ostype: z.enum(['l26', 'l24', 'other']).default('l26'),
    vga: z.enum(['serial0', 'std', 'virtio', 'none']).default('serial0'),
  }),
  onlyWhere('efidisk', 'bios', 'ovmf'),
)

const file = withRules(
  z.strictObject({
    path: guestPath.describe('in the guest'),
    source: relativePath.optional().describe('a file beside the definition'),
    content: z.string().optional(),
    mode: z
      .string()
      .regex(/^0?[0-7]{3,4}$/, "must be octal digits in quotes: '0644'")
      .default('0644'),
    owner: z
      .string()
      .regex(/^[a-z_][a-z0-9_-]*(:[a-z_][a-z0-9_-]*)?$/, 'must be user or user:group')
      .default('root:root'),
  }),
  exactlyOne(['source', 'content'], 'a file has one content'),
)

const packages = z.union([
  z.array(packageName).min(1),
  z.strictObject({
    install: z.array(packageName).default([]),
    remove: z.array(packageName).default([]),
    upgrade: z.boolean().default(false).describe('bring all installed packages up to date first'),
  }),
])

const shell = z.union([
  z.string().min(1),
  withRules(
    z.strictObject({
      script: relativePath
        .optional()
        .describe('a script beside the definition; its first line names the interpreter'),
      inline: z.string().min(1).optional(),
      user: user.default('root'),
    }),
    exactlyOne(['script', 'inline'], 'a layer runs one script'),
  ),
])

const layer = withRules(
  z.strictObject({
    name: z.string().min(1).max(100).optional().describe('shown while it runs'),
    packages: packages.optional().describe('Debian packages to install'),
    file: file.optional().describe('one file to put into the guest'),
    shell: shell.optional().describe('commands, run by /bin/sh -eu unless a script says otherwise'),
    reboot: z
      .union([z.literal(true), z.strictObject({})])
      .optional()
      .describe('restart the guest and wait for it'),
    env: z
      .record(environmentName, z.union([z.string(), z.number(), z.boolean()]))
      .optional()
      .describe('for shell; a value may be a reference to a secret: env:NAME, file:/path, cmd:command'),
    timeout: duration.optional().describe('packages and shell 30m, reboot 10m, file 5m when missing'),
  }),
  exactlyOne(['packages', 'file', 'shell', 'reboot'], 'one layer does one thing'),
  onlyBeside('env', 'shell'),
)

export const imageFile = z
  .strictObject({
    name: name.describe('as the folder is called'),
    kind: z.enum(['vm']).default('vm'),
    description: z.string().max(500).optional().describe('one line for people: what it is for'),
    source: source.describe('what the image starts from'),
    hardware: hardware.prefault({}).describe('of the template, in Proxmox’s own names'),
    cloudInit: z
      .array(fragmentName)
      .default([])
      .describe('fragments of cloud-config in cloud-init/, merged in this order'),
    provision: z.array(layer).default([]).describe('layers, applied in this order'),
    template: z
      .strictObject({
        tags: z
          .array(
            z
              .string()
              .regex(
                /^(?!ib-)[a-z0-9_][a-z0-9_\-+.]*$/,
                'must be a Proxmox tag in lower case that does not begin with ib-',
              ),
          )
          .default([]),
        description: z.string().max(2000).optional().describe('shown above imagebuild’s own note in Proxmox'),
      })
      .prefault({})
      .describe('how the template appears in Proxmox'),
    build: z
      .strictObject({
        cores: z.int().min(1).max(512).optional(),
        memory: z.int().min(64).optional().describe('MiB'),
        bootTimeout: duration.prefault('15m').describe('until SSH answers and cloud-init is done'),
        timeout: duration.prefault('2h').describe('for the whole build'),
      })
      .prefault({})
      .describe('only while building; no part of the result'),
  })
  .describe('imagebuild: one image')

const storages = z.strictObject({
  disks: z.string().describe('for the guest’s disks: local-lvm, local-zfs, …'),
  images: z.string().describe('for cloud images and seeds: content import and iso'),
})

const vmids = z.strictObject({
  templates: vmidRange.default('9000-9099').describe('where guests are built and templates live'),
  claims: vmidRange.default('9900-9999').describe('diskless VMs that lock an image while it is built'),
})

const addresses = z.union([
  z.literal('dhcp'),
  z.strictObject({
    range: ipv4Range,
    prefix: z.int().min(8).max(30),
    gateway: ipv4,
  }),
])

const shared = {
  vmids: vmids.prefault({}).describe('ranges of VMIDs that imagebuild may use'),
  macPrefix: z
    .string()
    .regex(/^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){0,2}$/, 'must be one to three bytes: 02, 52:54:00')
    .refine(
      (text) => (Number.parseInt(text.slice(0, 2), 16) & 3) === 2,
      'must be locally administered and unicast: the first byte is x2, x6, xA or xE',
    )
    .default('02:1b')
    .describe('first bytes of all MAC addresses: locally administered'),
  pool: z.string().optional().describe('Proxmox pool for all guests and templates'),
}

const labTarget = z.strictObject({
  kind: z.literal('lab'),
  storages: storages.default({ disks: 'local', images: 'local' }),
  ...shared,
})

const pveTarget = withRules(
  z.strictObject({
    kind: z.literal('pve'),
    endpoint: httpsEndpoint.optional().describe('PROXMOX_VE_ENDPOINT when missing'),
    token: secretReference
      .optional()
      .describe('user@realm!id=secret, by reference; PROXMOX_VE_API_TOKEN when missing'),
    username: z
      .string()
      .regex(/^[^@\s:/]+@[A-Za-z][A-Za-z0-9._-]+$/, 'must be user@realm')
      .optional(),
    password: secretReference.optional().describe('of `username`, by reference'),
    fingerprint: z
      .string()
      .regex(
        /^([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$/,
        'must be a SHA-256 fingerprint: 32 bytes in hex with colons',
      )
      .optional()
      .describe('SHA-256 of the server’s certificate, which then needs no CA'),
    ca: z.string().optional().describe('PEM file of the CA, relative to this file'),
    node: z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$/, 'must be the name of a node'),
    storages,
    bridge: z.string().min(1).default('vmbr0'),
    vlan: z.int().min(1).max(4094).optional(),
    addresses: addresses.default('dhcp').describe('of guests while they are built and verified'),
    dns: z.array(ipv4).default([]).describe('name servers, with a range of addresses'),
    ...shared,
  }),
  needs('username', 'password'),
  needs('password', 'username'),
  notBoth('token', 'username', 'there is one way to log in'),
  notBoth('fingerprint', 'ca', 'there is one way to trust the server'),
)

export const configFile = z
  .strictObject({
    namespace: name.describe(
      'part of every MAC, address and VMID that is derived: the same on all machines that build for one network',
    ),
    target: name.optional().describe('the default target'),
    targets: z
      .record(name, z.discriminatedUnion('kind', [labTarget, pveTarget]))
      .describe('places to build on, by name'),
  })
  .describe('imagebuild: where images are built')

export type ImageFile = z.output<typeof imageFile>
export type ConfigFile = z.output<typeof configFile>
export type Target = ConfigFile['targets'][string]
export type PveTarget = Extract<Target, { kind: 'pve' }>
export type LabTarget = Extract<Target, { kind: 'lab' }>
export type Hardware = ImageFile['hardware']
export type SourceFile = ImageFile['source']
