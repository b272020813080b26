import { z } from 'zod'
import { check } from './checks-schema.ts'
import { age, duration, fragmentName, name, nodeName, vmid } from './formats.ts'
import { hardening } from './hardening-schema.ts'
import { containerHardware, features, hardware } from './hardware-schema.ts'
import { layer } from './layer-schema.ts'
import { lxcSource, vmSource } from './source-schema.ts'
import { ssh } from './ssh-schema.ts'
import { updates } from './updates-schema.ts'

/**
 * The language of images/<name>/image.yaml. Both JSON Schemas in schemas/ are generated from the code
 * (`imagebuild schema`), so what an editor suggests is what the loader accepts.
 *
 * Names are Proxmox's own wherever it has one. Every `describe` is shown by editors.
 */

export const IMAGE_KINDS = ['vm', 'lxc'] as const
export type ImageKind = (typeof IMAGE_KINDS)[number]

const KIND = 'vm, a virtual machine, or lxc, a container; vm when missing'
const SOURCE = 'what the image starts from'
const HARDWARE = 'of the template, in Proxmox’s own names'
const TEMPLATE = 'how the template appears in Proxmox'

const first = { name: name.describe('as the folder is called') }
const description = z.string().max(500).optional().describe('one line for people: what it is for')

const made = {
  cloudInit: z
    .array(fragmentName)
    .default([])
    .describe('fragments of cloud-config in cloud-init/, merged in this order'),
  ssh: ssh.prefault({}).describe('login by SSH certificates, on every clone'),
  hardening: hardening
    .default('none')
    .describe('a profile, or a map with its settings; applied after the layers of `provision`'),
  provision: z.array(layer).default([]).describe('layers, applied in this order'),
  checks: z
    .array(check)
    .default([])
    .describe('what a clone of the template must show before the template counts as good'),
  updates: updates
    .prefault({})
    .describe('where scheduled runs look for newer packages; no part of the result'),
}

/** `template.vmid` */
export const fixedVmid = z.union([vmid, z.record(nodeName, vmid)])

const template = z.strictObject({
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
  keep: z
    .int()
    .min(1)
    .default(3)
    .describe('versions that are kept on each node, the current one included; older ones are removed'),
  maxAge: age.optional().describe('after this time scheduled runs build it anew: 30d, 12h'),
  vmid: fixedVmid
    .optional()
    .describe(
      'VMID of the current template, for ever the same: one number, or one for each node (`{ a: 9000, b: 9001 }`). ' +
        'For those whose tools cannot look it up',
    ),
})

const build = z
  .strictObject({
    cores: z.int().min(1).max(512).optional(),
    memory: z.int().min(64).optional().describe('MiB'),
    bootTimeout: duration.prefault('15m').describe('until SSH answers and cloud-init is done'),
    timeout: duration.prefault('2h').describe('for the whole build'),
  })
  .prefault({})
  .describe('only while building; no part of the result')

export const vmFile = z.strictObject({
  ...first,
  kind: z.literal('vm').default('vm').describe(KIND),
  description,
  source: vmSource.describe(SOURCE),
  hardware: hardware.prefault({}).describe(HARDWARE),
  ...made,
  template: template.prefault({}).describe(TEMPLATE),
  build,
})

export const lxcFile = z.strictObject({
  ...first,
  kind: z.literal('lxc').describe(KIND),
  description,
  source: lxcSource.describe(SOURCE),
  hardware: containerHardware.prefault({}).describe(HARDWARE),
  unprivileged: z.boolean().default(true).describe('root in the container is an ordinary user of the node'),
  features: features.prefault({}).describe('what it may do beyond the usual'),
  ...made,
  template: template
    .extend({
      archive: z
        .boolean()
        .default(false)
        .describe(
          'also keep it as <name>-<version>.tar.zst, for ostemplate= and for images that start from it',
        ),
    })
    .prefault({})
    .describe(TEMPLATE),
  build,
})

export const imageFile = z.discriminatedUnion('kind', [vmFile, lxcFile]).describe('imagebuild: one image')

export type VmFile = z.output<typeof vmFile>
export type LxcFile = z.output<typeof lxcFile>
