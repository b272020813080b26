import { z } from 'zod'

/** The language of `hardening`. What the profiles do is data in src/hardening/items. */

export const PROFILES = ['none', 'baseline', 'cis-l1'] as const
export type Profile = (typeof PROFILES)[number]

const settings = z.strictObject({
  profile: z
    .enum(PROFILES)
    .default('baseline')
    .describe('baseline: for every machine; cis-l1: CIS Benchmark, Level 1 Server, which contains it'),
  containers: z
    .boolean()
    .optional()
    .describe('the machine runs containers itself; guessed from its packages when missing'),
  postQuantum: z
    .boolean()
    .default(false)
    .describe('leave only post-quantum key exchange to sshd, which clients before OpenSSH 9.0 cannot do'),
  except: z
    .record(z.string(), z.string().min(1, 'needs a reason'))
    .default({})
    .describe('items that are switched off, each with the reason: reports show it'),
})

export const hardening = z.union([z.enum(PROFILES), settings])

export type HardeningFile = z.output<typeof hardening>
