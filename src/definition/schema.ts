import { z } from 'zod'

/**
 * The language of imagebuild.yaml and images/<name>/image.yaml. Both JSON Schemas in schemas/ are generated
 * from here (`imagebuild schema`), so what an editor suggests is what the loader accepts.
 *
 * Names are Proxmox's own wherever it has one. Every `describe` is shown by editors.
 */

const name = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/,
    'must be 1 to 40 lower-case letters, digits and dashes, as in a host name',
  )

/** Seconds. In YAML: `90s`, `10m`, `1h`. */
export const duration = z
  .string()
  .regex(/^\d+(s|m|h)$/, 'must be a number with a unit: 90s, 10m or 1h')
  .transform((text) => Number.parseInt(text, 10) * { s: 1, m: 60, h: 3600 }[text.at(-1) as 's' | 'm' | 'h'])

/** Bytes. In YAML as Proxmox writes sizes: `8G`, `512M`. */
export const size = z
  .string()
  .regex(/^\d+[MGT]$/, 'must be a size with a unit: 512M, 8G or 1T')
  .transform(
    (text) =>
      Number.parseInt(text, 10) * { M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }[text.at(-1) as 'M' | 'G' | 'T'],
  )

const secretReference = z
  .string()
  .regex(
    /^(env|file|cmd):.+$/s,
    'must be a reference to a secret: env:NAME, file:/path or cmd:command, never the secret itself',
  )

const checksum = z
  .string()
  .regex(
    /^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/,
    'must be sha256:<64 hex digits> or sha512:<128 hex digits>',
  )

const ipv4 = z.ipv4('must be an IPv4 address')
const ipv4Range = z
  .string()
  .regex(/^\d+(\.\d+){3}-\d+(\.\d+){3}$/, 'must be two IPv4 addresses with a dash: 192.0.2.100-192.0.2.149')
const vmidRange = z.string().regex(/^[1-9]\d{2,8}-[1-9]\d{2,8}$/, 'must be two VMIDs with a dash: 9000-9099')
const packageName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?$/,
    'must be a Debian package name, with =version if need be',
  )
const fragmentName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'must be the name of a file in cloud-init/, without .yaml')
const environmentName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of an environment variable')
const absolutePath = z.string().regex(/^\/[^\0]*[^/\0]$/, 'must be an absolute path in the guest')
const relativePath = z.string().regex(/^[^/\0][^\0]*$/, 'must be a path relative to this file')

export const architecture = z.enum(['amd64', 'arm64'])
export type Architecture = z.infer<typeof architecture>

const bootstrap = z.strictObject({
  distribution: z.enum(['debian', 'ubuntu']),
  suite: z.string().regex(/^[a-z]+$/, 'must be a suite such as bookworm or noble'),
  mirror: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe('package mirror; the distribution’s own when missing'),
  packages: z.array(packageName).default([]).describe('packages on top of the bootable minimum'),
})

const source = z
  .strictObject({
    release: z
      .string()
      .optional()
      .describe('a cloud image from the catalog: debian/12, ubuntu/24.04-minimal, …'),
    url: z.string().optional().describe('any disk image: https://…, http://… or file:…; needs a checksum'),
    checksum: checksum.optional(),
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
  })
  .superRefine((value, context) => {
    const chosen = (['release', 'url', 'bootstrap', 'image'] as const).filter(
      (key) => value[key] !== undefined,
    )
    if (chosen.length === 0) {
      context.addIssue({ code: 'custom', message: 'needs one of release, url, bootstrap or image' })
    }
    for (const key of chosen.slice(1)) {
      context.addIssue({
        code: 'custom',
        path: [key],
        message: `cannot stand beside ${chosen[0]}: a source is one thing`,
      })
    }
    if (value.url !== undefined && value.checksum === undefined) {
      context.addIssue({
        code: 'custom',
        path: ['url'],
        message: 'needs a checksum beside it (sha256:… or sha512:…)',
      })
    }
    for (const [key, owner] of [
      ['checksum', 'url'],
      ['format', 'url'],
      ['fallback', 'release'],
    ] as const) {
      if (value[key] !== undefined && value[owner] === undefined) {
        context.addIssue({ code: 'custom', path: [key], message: `only means something beside ${owner}` })
      }
    }
  })

const hardware = z
  .strictObject({
    cores: z.int().min(1).max(512).default(1),
    sockets: z.int().min(1).max(4).default(1),
    cpu: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9_.+,=;-]*$/, 'must be a CPU type that Proxmox knows')
      .default('x86-64-v2-AES'),
    memory: z.int().min(64).max(4_194_304).default(1024).describe('MiB'),
    disk: size.optional().describe('size of the template’s disk; the source’s own when missing'),
    bios: z.enum(['seabios', 'ovmf']).default('seabios'),
    machine: z
      .string()
      .regex(/^[a-z0-9.+-]+$/, 'must be a machine type that Proxmox knows: q35, pc-i440fx-9.0')
      .optional(),
    efidisk: z
      .strictObject({
        efitype: z.enum(['2m', '4m']).default('4m'),
        'pre-enrolled-keys': z.boolean().default(false),
      })
      .optional()
      .describe('only with bios: ovmf, which gets one anyway'),
    ostype: z.enum(['l26', 'l24', 'other']).default('l26'),
    vga: z.enum(['serial0', 'std', 'virtio', 'none']).default('serial0'),
  })
  .superRefine((value, context) => {
    if (value.efidisk && value.bios !== 'ovmf') {
      context.addIssue({ code: 'custom', path: ['efidisk'], message: 'only means something with bios: ovmf' })
    }
  })

const layer = z
  .strictObject({
    name: z.string().min(1).optional().describe('shown while it runs'),
    packages: z
      .union([
        z.array(packageName).min(1),
        z.strictObject({
          install: z.array(packageName).default([]),
          remove: z.array(packageName).default([]),
          upgrade: z.boolean().default(false).describe('bring all installed packages up to date first'),
        }),
      ])
      .optional()
      .describe('Debian packages to install'),
    file: z
      .strictObject({
        path: absolutePath.describe('in the guest'),
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
      })
      .superRefine((value, context) => {
        if ((value.source === undefined) === (value.content === undefined)) {
          context.addIssue({ code: 'custom', message: 'needs either source or content' })
        }
      })
      .optional(),
    shell: z
      .union([
        z.string().min(1),
        z
          .strictObject({
            script: relativePath
              .optional()
              .describe('a script beside the definition; its first line names the interpreter'),
            inline: z.string().optional(),
            user: z
              .string()
              .regex(/^[a-z_][a-z0-9_-]*$/)
              .default('root'),
          })
          .superRefine((value, context) => {
            if ((value.script === undefined) === (value.inline === undefined)) {
              context.addIssue({ code: 'custom', message: 'needs either script or inline' })
            }
          }),
      ])
      .optional()
      .describe('commands, run by /bin/sh -eu unless a script says otherwise'),
    reboot: z.union([z.literal(true), z.strictObject({})]).optional(),
    env: z
      .record(environmentName, z.union([z.string(), z.number(), z.boolean()]))
      .optional()
      .describe('for shell; a value may be a reference to a secret: env:NAME, file:/path, cmd:command'),
    timeout: duration.optional(),
  })
  .superRefine((value, context) => {
    const chosen = (['packages', 'file', 'shell', 'reboot'] as const).filter(
      (key) => value[key] !== undefined,
    )
    if (chosen.length === 0) {
      context.addIssue({ code: 'custom', message: 'needs one of packages, file, shell or reboot' })
    }
    for (const key of chosen.slice(1)) {
      context.addIssue({
        code: 'custom',
        path: [key],
        message: `cannot stand beside ${chosen[0]}: one layer does one thing`,
      })
    }
    if (value.env !== undefined && value.shell === undefined) {
      context.addIssue({ code: 'custom', path: ['env'], message: 'only means something beside shell' })
    }
  })

export const imageFile = z
  .strictObject({
    name: name.describe('as the folder is called'),
    kind: z.enum(['vm']).default('vm'),
    description: z.string().optional(),
    source,
    hardware: hardware.default(hardware.parse({})),
    cloudInit: z
      .array(fragmentName)
      .default([])
      .describe('fragments of cloud-config in cloud-init/, merged in this order'),
    provision: z.array(layer).default([]),
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
      .default({ tags: [] }),
    build: z
      .strictObject({
        cores: z.int().min(1).max(512).optional(),
        memory: z.int().min(64).optional().describe('MiB'),
        bootTimeout: duration.default(900).describe('until SSH answers and cloud-init is done'),
        timeout: duration.default(7200).describe('for the whole build'),
      })
      .default({ bootTimeout: 900, timeout: 7200 })
      .describe('only while building; no part of the result'),
  })
  .describe('imagebuild: one image')

const storages = z.strictObject({
  disks: z.string().describe('for the guest’s disks: local-lvm, local-zfs, …'),
  images: z.string().describe('for cloud images and seeds: content import and iso'),
})

const vmids = z.strictObject({
  templates: vmidRange.default('9000-9099'),
  claims: vmidRange.default('9900-9999'),
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
  vmids: vmids.default(vmids.parse({})),
  macPrefix: z
    .string()
    .regex(/^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){0,2}$/, 'must be one to three bytes: 02, 52:54:00')
    .refine(
      (text) => (Number.parseInt(text.slice(0, 2), 16) & 3) === 2,
      'must be locally administered and unicast: the first byte is x2, x6, xA or xE',
    )
    .default('02:1b'),
  pool: z.string().optional().describe('Proxmox pool for all guests and templates'),
}

const labTarget = z.strictObject({
  kind: z.literal('lab'),
  storages: storages.default({ disks: 'local', images: 'local' }),
  ...shared,
})

const pveTarget = z
  .strictObject({
    kind: z.literal('pve'),
    endpoint: z
      .url({ protocol: /^https$/, error: 'must be an https URL such as https://pve.example:8006' })
      .optional()
      .describe('PROXMOX_VE_ENDPOINT when missing'),
    token: secretReference
      .optional()
      .describe('user@realm!id=secret, by reference; PROXMOX_VE_API_TOKEN when missing'),
    username: z
      .string()
      .regex(/^[^@\s]+@[a-z]+$/, 'must be user@realm')
      .optional(),
    password: secretReference.optional(),
    fingerprint: z
      .string()
      .regex(
        /^([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$/,
        'must be a SHA-256 fingerprint: 32 bytes in hex with colons',
      )
      .optional(),
    ca: z.string().optional().describe('PEM file of the CA, relative to this file'),
    node: z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$/, 'must be the name of a node'),
    storages,
    bridge: z.string().default('vmbr0'),
    vlan: z.int().min(1).max(4094).optional(),
    addresses: addresses.default('dhcp'),
    dns: z.array(ipv4).default([]),
    ...shared,
  })
  .superRefine((value, context) => {
    if ((value.username === undefined) !== (value.password === undefined)) {
      context.addIssue({
        code: 'custom',
        path: [value.username ? 'username' : 'password'],
        message: 'username and password go together',
      })
    }
    if (value.username !== undefined && value.token !== undefined) {
      context.addIssue({
        code: 'custom',
        path: ['username'],
        message: 'cannot stand beside token: one way to log in',
      })
    }
    if (value.fingerprint !== undefined && value.ca !== undefined) {
      context.addIssue({
        code: 'custom',
        path: ['ca'],
        message: 'cannot stand beside fingerprint: one way to trust',
      })
    }
  })

export const configFile = z
  .strictObject({
    namespace: name.describe(
      'part of every MAC, address and VMID that is derived: the same on all machines that build for one network',
    ),
    target: name.optional().describe('the default target'),
    targets: z.record(name, z.discriminatedUnion('kind', [labTarget, pveTarget])),
  })
  .superRefine((value, context) => {
    if (value.target !== undefined && !(value.target in value.targets)) {
      context.addIssue({
        code: 'custom',
        path: ['target'],
        message: `is not one of targets: ${Object.keys(value.targets).join(', ')}`,
      })
    }
  })
  .describe('imagebuild: where images are built')

export type ImageFile = z.output<typeof imageFile>
export type ConfigFile = z.output<typeof configFile>
export type Target = ConfigFile['targets'][string]
export type PveTarget = Extract<Target, { kind: 'pve' }>
export type LabTarget = Extract<Target, { kind: 'lab' }>
export type Hardware = ImageFile['hardware']
export type SourceFile = ImageFile['source']
