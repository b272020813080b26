import type { Emit } from '../core/events.ts'
import type { SecretRegistry } from '../core/secrets.ts'

/** What all that is sent needs beside its own configuration. */
export interface NotifyContext {
  /** resolves references; what comes of them is never printed */
  secrets: SecretRegistry
  emit: Emit
  /** ends all sending; not the run's own, which may have been aborted already */
  signal: AbortSignal
  /** waits between tries; `sleep` when missing */
  pause?: (milliseconds: number, signal: AbortSignal) => Promise<void>
  /** seconds that one try may take; 30 when missing */
  trySeconds?: number
  /** seconds that a reference may take to give its value; 60 when missing */
  secretSeconds?: number
}
