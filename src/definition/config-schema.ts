import { z } from 'zod'
import { ci } from './ci-schema.ts'
import {
  httpsEndpoint,
  ipv4,
  ipv4Range,
  name,
  nodeName,
  secretReference,
  serverUrl,
  urlHost,
  vmidRange,
} from './formats.ts'
import { exactlyOne, needs, notBoth, withRules } from './rules.ts'
import { targetSsh } from './ssh-schema.ts'

/** The language of imagebuild.yaml: where images are built. */

const storages = z.strictObject({
  disks: z.string().describe('for the guest’s disks: local-lvm, local-zfs, …'),
  images: z.string().describe('for cloud images and seeds: content import and iso'),
  archives: z
    .string()
    .optional()
    .describe('for containers’ root file systems: content vztmpl; the same as `images` when missing'),
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

const mirror = z
  .strictObject({
    main: serverUrl.optional().describe('of the archive; its own server when missing'),
    security: serverUrl
      .optional()
      .describe('of security updates; when missing Debian’s own server, or Ubuntu’s `main`'),
  })
  .prefault({})

const nodes = z.array(nodeName).min(1).meta({ uniqueItems: true })

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
  mirrors: z
    .strictObject({ debian: mirror, ubuntu: mirror })
    .prefault({})
    .describe(
      'where scheduled runs read what the distributions’ own suites have; the signatures stay the same',
    ),
  privateHosts: z
    .array(urlHost)
    .meta({ uniqueItems: true })
    .default([])
    .describe('hosts in private networks that a server of packages may redirect to'),
  pool: z.string().optional().describe('Proxmox pool for all guests and templates'),
  ssh: targetSsh.prefault({}).describe('SSH certificates; the lab has a CA of its own where this is missing'),
}

const labTarget = z.strictObject({
  kind: z.literal('lab'),
  nodes: nodes
    .optional()
    .describe('nodes that the lab shall play, and images are built on; `lab` alone when missing'),
  storages: storages.default({ disks: 'local', images: 'local', archives: 'local' }),
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
    node: nodeName.optional().describe('where images are built'),
    nodes: nodes
      .optional()
      .describe(
        'instead of `node`: each gets a template of its own, unless its disks are on a shared storage',
      ),
    storages,
    bridge: z.string().min(1).default('vmbr0'),
    vlan: z.int().min(1).max(4094).optional(),
    addresses: addresses.default('dhcp').describe('of guests while they are built and verified'),
    dns: z.array(ipv4).default([]).describe('name servers, with a range of addresses'),
    ...shared,
  }),
  exactlyOne(['node', 'nodes'], '`nodes` is for several'),
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
    ci: ci.prefault({}).describe('scheduled runs: what is a reason to build, and whom they tell'),
  })
  .describe('imagebuild: where images are built')

export type ConfigFile = z.output<typeof configFile>
export type Target = ConfigFile['targets'][string]
export type PveTarget = Extract<Target, { kind: 'pve' }>
export type LabTarget = Extract<Target, { kind: 'lab' }>
