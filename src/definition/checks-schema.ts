import { z } from 'zod'
import { guestPath, packageName } from './formats.ts'
import { exactlyOne, onlyBeside, withRules } from './rules.ts'

/** The language of `checks`: what a clone of the finished template must be able to show. */

export const SUBJECTS = ['command', 'file', 'package', 'service', 'port'] as const

const pattern = z
  .string()
  .min(1)
  .refine((text) => isPattern(text), 'must be a regular expression')

export const check = withRules(
  z.strictObject({
    name: z.string().min(1).max(100).optional().describe('shown in reports'),
    command: z.string().min(1).optional().describe('run as root by /bin/sh'),
    exit: z.int().min(0).max(255).optional().describe('of command; 0 when missing'),
    output: pattern.optional().describe('of command: a regular expression that its output contains'),
    file: guestPath.optional(),
    exists: z.boolean().optional().describe('of file; true when missing'),
    mode: z
      .string()
      .regex(/^0?[0-7]{3,4}$/, "must be octal digits in quotes: '0644'")
      .optional()
      .describe('of file: the most that it may allow'),
    owner: z
      .string()
      .regex(/^[a-z_][a-z0-9_-]*:[a-z_][a-z0-9_-]*$/, 'must be user:group')
      .optional()
      .describe('of file'),
    contains: pattern.optional().describe('of file: a regular expression that is found in it'),
    lacks: pattern.optional().describe('of file: a regular expression that is not found in it'),
    package: packageName.optional(),
    installed: z.boolean().optional().describe('of package; true when missing'),
    service: z
      .string()
      .regex(/^[A-Za-z0-9@._:\\-]+$/, 'must be the name of a systemd unit')
      .optional()
      .describe('a systemd unit; .service when it has no suffix'),
    state: z
      .enum(['active', 'inactive', 'enabled', 'disabled', 'masked'])
      .optional()
      .describe('of service; active when missing'),
    port: z.int().min(1).max(65535).optional(),
    protocol: z.enum(['tcp', 'udp']).optional().describe('of port; tcp when missing'),
    listening: z.boolean().optional().describe('of port; true when missing'),
  }),
  exactlyOne(SUBJECTS, 'one check asks one thing'),
  onlyBeside('exit', 'command'),
  onlyBeside('output', 'command'),
  onlyBeside('exists', 'file'),
  onlyBeside('mode', 'file'),
  onlyBeside('owner', 'file'),
  onlyBeside('contains', 'file'),
  onlyBeside('lacks', 'file'),
  onlyBeside('installed', 'package'),
  onlyBeside('state', 'service'),
  onlyBeside('protocol', 'port'),
  onlyBeside('listening', 'port'),
)

export type CheckFile = z.output<typeof check>

function isPattern(text: string): boolean {
  try {
    return new RegExp(text, 'm') !== undefined
  } catch {
    return false
  }
}
