import { z } from 'zod'
import { checksum, httpUrl, name, packageName } from './formats.ts'
import { exactlyOne, needs, onlyBeside, withRules } from './rules.ts'

/** The language of `source`: what an image starts from. */

export const architecture = z.enum(['amd64', 'arm64'])
export type Architecture = z.infer<typeof architecture>

const bootstrap = z.strictObject({
  distribution: z.enum(['debian', 'ubuntu']),
  suite: z.string().regex(/^[a-z]+$/, 'must be a suite such as trixie or resolute'),
  mirror: httpUrl.optional().describe('package mirror; the distribution’s own when missing'),
  packages: z.array(packageName).default([]).describe('packages on top of the bootable minimum'),
})

/** What every kind of image can start from; the words for a disk and for a root file system differ. */
function beginnings<const Formats extends readonly [string, ...string[]]>(
  formats: Formats,
  words: { url: string; parent: string; missing: string },
) {
  return {
    url: z.string().optional().describe(`${words.url}: https://…, http://… or file:…; needs a checksum`),
    checksum: checksum.optional().describe('sha256:… or sha512:… of the bytes behind `url`'),
    format: z.enum(formats).optional().describe('of `url`; guessed from its name when missing'),
    bootstrap: bootstrap.optional().describe('built from the distribution’s packages'),
    image: name.optional().describe(words.parent),
    architecture: architecture
      .default('amd64')
      .describe('of the image, and of the nodes that it is built on'),
    fallback: z
      .literal('bootstrap')
      .optional()
      .describe(`where ${words.missing} cannot be reached: the same release from its packages`),
  }
}

const RULES = [
  needs('url', 'checksum'),
  onlyBeside('checksum', 'url'),
  onlyBeside('format', 'url'),
  onlyBeside('fallback', 'release'),
]

export const vmSource = withRules(
  z.strictObject({
    release: z
      .string()
      .optional()
      .describe('a cloud image from the catalog: debian/13, ubuntu/26.04-minimal, …'),
    ...beginnings(['qcow2', 'raw', 'qcow2.xz', 'raw.xz', 'qcow2.zst', 'raw.zst'], {
      url: 'any disk image',
      parent: 'another image of ours: starts from its current template',
      missing: 'the cloud image',
    }),
  }),
  exactlyOne(['release', 'url', 'bootstrap', 'image'], 'a source is one thing'),
  ...RULES,
)

export const lxcSource = withRules(
  z.strictObject({
    release: z
      .string()
      .optional()
      .describe('the cloud variant of images.linuxcontainers.org: debian/13, ubuntu/26.04, …'),
    appliance: z
      .string()
      .regex(
        /^[A-Za-z0-9][A-Za-z0-9.+~_-]*$/,
        'must be a name from Proxmox’s appliance list: debian-13-standard, debian-13-standard_13.1-2_amd64.tar.zst',
      )
      .optional()
      .describe('from Proxmox’s appliance list (pveam available): debian-13-standard, …'),
    ...beginnings(['tar.zst', 'tar.xz', 'tar.gz', 'tar'], {
      url: 'any archive of a root file system',
      parent: 'another image of ours, with template.archive: true: starts from its current archive',
      missing: 'the archive',
    }),
  }),
  exactlyOne(['release', 'appliance', 'url', 'bootstrap', 'image'], 'a source is one thing'),
  ...RULES,
)

export type VmSource = z.output<typeof vmSource>
export type LxcSource = z.output<typeof lxcSource>
