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
  /** stable name of what it is about, whatever becomes of it: a layer, a part of the definition, the source, a node */
  subject: string
  /** one line */
  text: string
  where?: SourceLocation
  /** what is different: lines with `-`, `+` or a space before them */
  diff?: string
}
