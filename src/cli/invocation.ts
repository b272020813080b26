import type { SecretRegistry } from '../core/secrets.ts'

/** What every command gets. */
export interface Invocation {
  version: string
  secrets: SecretRegistry
  /** aborted by SIGINT and SIGTERM with an ImagebuildError as reason */
  signal: AbortSignal
  /** tells a person something between the results; `run` has it said by what paints its screen */
  say?: (message: string) => void
  /** what an error really means, where the target knows better: set by who connects */
  explain?: (thrown: unknown) => Promise<unknown>
  /** who answers there, once that is known: `Proxmox VE 9.2.11 (target lab)`; errors say it */
  talksTo?: string
  /** path of imagebuild.yaml, where one was named */
  config?: string
  debug: boolean
}
