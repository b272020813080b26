import { z } from 'zod'
import { relativePath, user } from './formats.ts'

/** The language of `ssh`: what makes certificate login work on every clone. Nothing private is ever named here. */

const authority = z
  .string()
  .min(1)
  .describe('a public key (ssh-ed25519 AAAA…), or a file beside this one that holds one or several')

const principal = z
  .string()
  .regex(/^[^\s,#"']+$/, 'must be a principal of a certificate: no spaces, commas, quotes or #')

export const ssh = z.strictObject({
  ca: z
    .array(authority)
    .optional()
    .describe('user CAs whose certificates may log in; the target’s when missing; [] for none'),
  principals: z
    .record(user, z.array(principal).min(1))
    .default({})
    .describe(
      'who may log in as which user: names in a certificate. Without this, a certificate must name the user itself',
    ),
  revokedKeys: relativePath
    .optional()
    .describe('keys and certificates that are refused: a KRL of `ssh-ca revoke`, or public keys, one a line'),
})

export type SshFile = z.output<typeof ssh>

/** Of a target: the default of its images. */
export const targetSsh = z.strictObject({
  ca: z
    .array(authority)
    .default([])
    .describe('user CAs of its images, where they name none: public keys, or files beside this one'),
  revokedKeys: z
    .string()
    .min(1)
    .optional()
    .describe('what its images refuse, where they say nothing themselves: a KRL, relative to this file'),
  signer: z
    .string()
    .min(1)
    .optional()
    .describe(
      'folder of `ssh-ca init`, relative to this file: signs the login with which a clone is verified',
    ),
})

export type TargetSshFile = z.output<typeof targetSsh>
