import type { SourceLocation } from '../core/errors.ts'

/** Why something would be done to an image. */
export interface Reason {
  kind:
    | 'new'
    | 'definition'
    | 'source'
    | 'parent'
    | 'hardening'
    | 'certificates'
    | 'recipe'
    | 'checks'
    | 'unverified'
    | 'candidate'
    | 'held'
    | 'vmid'
    | 'unknown'
  /** one line */
  text: string
  where?: SourceLocation
  /** what is different: lines with `-`, `+` or a space before them */
  diff?: string
}
