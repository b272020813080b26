import { z } from 'zod'
import { duration, environmentName, guestPath, packageName, relativePath, user } from './formats.ts'
import { exactlyOne, onlyBeside, withRules } from './rules.ts'

/** The language of `provision`: one layer does one thing. */

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

export const layer = withRules(
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

export type LayerFile = z.output<typeof layer>
