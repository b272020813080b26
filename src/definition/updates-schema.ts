import { z } from 'zod'
import { relativePath, serverUrl } from './formats.ts'

/** The language of `updates`: whose newer packages make an image stale. */

const repository = z.strictObject({
  url: serverUrl.describe('as apt’s sources in the image have it'),
  suite: z
    .string()
    .regex(
      /^[A-Za-z0-9][\w.+~-]*(\/[\w.+~-]+)*$/,
      'must be a suite such as trixie or stable/updates; one that ends with a slash has no signed index',
    )
    .describe('as apt’s sources in the image have it'),
  components: z
    .array(z.string().regex(/^[A-Za-z0-9][\w.+~/-]*$/, 'must be a component such as main'))
    .min(1)
    .meta({ uniqueItems: true })
    .default(['main']),
  key: relativePath.describe(
    'file beside this one with the OpenPGP public keys that sign it, armored or binary',
  ),
  security: z.boolean().default(false).describe('what it has newer counts as a security update'),
})

export const updates = z.strictObject({
  repositories: z
    .array(repository)
    .default([])
    .describe(
      'beyond the distribution’s own. Each counts where the image has it among apt’s sources, and for images that are built on this one',
    ),
})

export type UpdatesFile = z.output<typeof updates>
export type RepositoryFile = UpdatesFile['repositories'][number]
