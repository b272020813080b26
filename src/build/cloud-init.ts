import { ImagebuildError } from '../core/errors.ts'
import type { Session } from '../ssh/session.ts'
import { ConsoleLines } from './console-lines.ts'
import type { Build } from './context.ts'

/**
 * Waits for the first boot to be done. Not by `cloud-init status --wait`, which starts Python and polls: the
 * files that it reads are cloud-init's documented interface (https://docs.cloud-init.io, "status.json and
 * result.json"), and waiting for one costs a shell. Exit 64 says that there is no cloud-init at work.
 */
const WAIT = `
run=/run/cloud-init
if [ ! -d "$run" ] || [ -e "$run/disabled" ]; then exit 64; fi
while [ ! -e "$run/result.json" ]; do sleep 0.2; done
cat "$run/result.json"
echo
cat "$run/status.json"
`

/** Of cloud-init's output: what is read, so that what begins further up is known for a password, and what an error quotes. */
const READ_BYTES = 64 * 1024
const SHOWN_LINES = 15

interface CloudInitResult {
  v1: { datasource: string | null; errors: string[] }
}

interface CloudInitStatus {
  v1: Record<string, { errors?: string[]; recoverable_errors?: Record<string, string[]> } | string | null>
}

/**
 * Warns where cloud-init finished, but not all of it went well ("degraded").
 * @throws ImagebuildError `build_failed` with cloud-init's own errors
 */
export async function awaitCloudInit({ image, signal, emit }: Build, session: Session): Promise<void> {
  const options = { seconds: image.build.bootTimeout, signal }
  const { code, stdout, stderr } = await session.run(WAIT, { ...options, sudo: true })
  if (code !== 0) {
    throw new ImagebuildError({
      code: 'build_failed',
      what: 'cloud-init did not run in the guest',
      why: code === 64 ? 'it is disabled, or not installed' : stderr.trim() || `exit code ${code}`,
      next: 'the source must be a cloud image: one with cloud-init and its NoCloud data source',
    })
  }
  const [result = '{}', ...status] = splitDocuments(stdout)
  const { errors } = (JSON.parse(result) as CloudInitResult).v1
  if (errors.length > 0) {
    const log = await session.run(`tail -c ${READ_BYTES} /var/log/cloud-init-output.log`, {
      seconds: 30,
      signal: options.signal,
      sudo: true,
    })
    throw new ImagebuildError({
      code: 'build_failed',
      what: 'cloud-init failed in the guest',
      why: errors.join('\n'),
      output: new ConsoleLines()
        .read(`${log.stdout}\n`)
        .filter((line) => line !== '')
        .slice(-SHOWN_LINES),
      next: 'mend the cloudInit fragments; --on-error keep leaves the guest for you to look into',
    })
  }
  for (const message of recoverable(JSON.parse(status.join('') || '{"v1":{}}') as CloudInitStatus)) {
    emit({ type: 'warning', image: image.name, message })
  }
}

/** Two JSON documents, one after the other; within each, only its first brace begins a line. */
function splitDocuments(text: string): string[] {
  return text.split(/\n+(?=\{)/)
}

function recoverable(status: CloudInitStatus): string[] {
  return Object.entries(status.v1).flatMap(([stage, outcome]) =>
    typeof outcome === 'object' && outcome !== null
      ? Object.entries(outcome.recoverable_errors ?? {}).flatMap(([level, messages]) =>
          messages.map((message) => `cloud-init, stage ${stage}, ${level.toLowerCase()}: ${message}`),
        )
      : [],
  )
}
