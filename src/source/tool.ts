import { execa } from 'execa'
import { ImagebuildError } from '../core/errors.ts'
import type { SourceContext } from './context.ts'
import { installLine } from './requirements.ts'

/** How many of a tool's last lines go into an error. */
const TAIL = 20

export interface ToolCall {
  /** what it is done for, for the error: `making the root file system` */
  purpose: string
  environment?: Record<string, string>
  input?: string
  /** an open file that its stdout goes to, past this process; otherwise stdout is lines and the result */
  output?: number
  /** how it is ended when the work is given up; SIGTERM, and SIGKILL 20 s later, unless given */
  killSignal?: 'SIGKILL'
}

/**
 * Runs one of the system's tools with its output going to `onLine`, and gives what it printed on stdout: nothing,
 * where that went to a file.
 * @throws ImagebuildError `prerequisite_missing` if the tool is not installed, `build_failed` with its last
 *   lines if it fails; the signal's own reason if the work was given up
 */
export async function runTool(
  command: string,
  args: readonly string[],
  call: ToolCall,
  ctx: Pick<SourceContext, 'signal' | 'onLine'>,
): Promise<string> {
  const lastLines: string[] = []
  const child = execa(command, args, {
    cancelSignal: ctx.signal,
    env: { LC_ALL: 'C.UTF-8', ...call.environment },
    ...(call.input === undefined ? { stdin: 'ignore' } : { input: call.input }),
    // Any descriptor will do; execa's types know the first three.
    ...(call.output !== undefined && { stdout: call.output as 1 }),
    all: true,
    killSignal: call.killSignal ?? 'SIGTERM',
    forceKillAfterDelay: 20_000,
  })
  const lines = (async () => {
    for await (const line of child.iterable({ from: 'all' })) {
      lastLines.push(line)
      if (lastLines.length > TAIL) lastLines.shift()
      ctx.onLine?.(line)
    }
  })()
  try {
    const [{ stdout }] = await Promise.all([child, lines.catch(() => {})])
    return stdout ?? ''
  } catch (cause) {
    ctx.signal.throwIfAborted()
    demandInstalled(command, call.purpose, cause)
    // The output is read to its end before it is quoted.
    await lines.catch(() => {})
    throw new ImagebuildError({
      code: 'build_failed',
      what: `${call.purpose} failed`,
      why: howItEnded(command, cause),
      output: lastLines,
      cause,
    })
  }
}

/**
 * Runs a tool and gives what it prints on stdout as it comes. Whoever reads no further ends it.
 * @throws ImagebuildError as `runTool`
 */
export async function* toolOutput(
  command: string,
  args: readonly string[],
  purpose: string,
  ctx: Pick<SourceContext, 'signal'>,
): AsyncGenerator<Buffer> {
  const child = execa(command, args, {
    ...{ cancelSignal: ctx.signal, env: { LC_ALL: 'C.UTF-8' }, stdin: 'ignore' as const },
    ...{ encoding: 'buffer' as const, buffer: { stdout: false, stderr: true } },
  })
  // Without a listener, a tool that fails before anybody waits for it would end the process.
  child.catch(() => {})
  let isRead = false
  try {
    for await (const chunk of child.stdout) yield chunk as Buffer
    isRead = true
    await child
  } catch (cause) {
    ctx.signal.throwIfAborted()
    demandInstalled(command, purpose, cause)
    const printed = (cause as { stderr?: Uint8Array }).stderr ?? new Uint8Array()
    throw new ImagebuildError({
      code: 'build_failed',
      what: `${purpose} failed`,
      why: howItEnded(command, cause),
      output: Buffer.from(printed).toString('utf8').split('\n').filter(Boolean).slice(-TAIL),
      cause,
    })
  } finally {
    if (!isRead) child.kill()
  }
}

function demandInstalled(command: string, purpose: string, cause: unknown): void {
  if ((cause as { code?: string }).code !== 'ENOENT') return
  throw new ImagebuildError({
    code: 'prerequisite_missing',
    what: `${purpose} needs the command ${command}, which is not installed`,
    next: installLine(command),
    cause,
  })
}

/** Without its arguments: those of mmdebstrap are two thousand characters of shell. */
function howItEnded(command: string, cause: unknown): string {
  const { exitCode, signal, message } = cause as { exitCode?: number; signal?: string; message?: string }
  if (exitCode !== undefined) return `${command} ended with exit code ${exitCode}`
  if (signal !== undefined) return `${command} was ended by ${signal}`
  return message ?? String(cause)
}
