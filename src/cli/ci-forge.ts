import { readFile } from 'node:fs/promises'
import type { SecretRegistry } from '../core/secrets.ts'
import type { PullRequestSettings } from '../definition/ci-schema.ts'
import type { Invocation } from './invocation.ts'

/** The forge that `ci.pullRequest` names. What knows of forges lies in ci/, and is loaded only where there is one. */

export type Forge = import('../../ci/forge.ts').Forge
export type Annotation = import('../../ci/forge.ts').Annotation

export interface OpenForge {
  forge: Forge
  /** what goes to the forge has none of them */
  secrets: SecretRegistry
  /** branch of the pull request: of this program alone */
  branch: string
  /** that it is for */
  base: () => Promise<string>
  /** commit that this run was started for, and where its log is */
  started: { commit?: string; log?: string }
}

/**
 * @param dryRun takes lines for people that say what would be sent; nothing is sent then
 * @throws ImagebuildError `usage` where it cannot be told which forge, `definition_invalid` where there is no token
 */
export async function openForgeFor(
  settings: PullRequestSettings,
  target: string,
  { secrets, signal }: Invocation,
  { say, dryRun }: { say: (line: string) => void; dryRun?: (line: string) => void },
): Promise<OpenForge> {
  const { forgeSettings, startedFor } = await import('../../ci/forge-settings.ts')
  const { ca, base, ...written } = settings
  const pem = ca === undefined ? {} : { ca: await readFile(ca, 'utf8') }
  const where = forgeSettings({ ...written, ...pem }, process.env)
  const { commit, branch, log } = startedFor(process.env)
  const forge = dryRun
    ? (await import('../../ci/dry-run.ts')).dryRun(where, dryRun, secrets)
    : await (await import('../../ci/open-forge.ts')).openForge(where, secrets, {
        say,
        signal: lateBy(LAST_SECONDS, signal),
      })
  const started = { ...(commit !== undefined && { commit }), ...(log !== undefined && { log }) }
  return {
    ...{ forge, secrets, started, branch: `imagebuild/rebuild-${target}` },
    base: async () => base ?? branch ?? (await forge.defaultBranch()),
  }
}

/** Seconds for what a run that was interrupted has built already: without its change the user would not hear of it. */
const LAST_SECONDS = 60

function lateBy(seconds: number, signal: AbortSignal): AbortSignal {
  const late = new AbortController()
  const wait = () => void setTimeout(() => late.abort(signal.reason), seconds * 1000).unref()
  if (signal.aborted) wait()
  else signal.addEventListener('abort', wait, { once: true })
  return late.signal
}
