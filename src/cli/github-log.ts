import { fstatSync, realpathSync } from 'node:fs'
import { relative } from 'node:path'
import type { Event, Sink } from '../core/events.ts'
import type { Diagnostic } from '../definition/diagnostics.ts'
import { subject } from './render.ts'

/** What GitHub Actions reads out of a log: groups, masks, annotations, and commands that others must not give. */

export function isOnGitHub(env: NodeJS.ProcessEnv = process.env): boolean {
  return env.GITHUB_ACTIONS === 'true'
}

/**
 * No line of it is a command. The runner trims white space before `::`, and finds the older form, `##[…]`, anywhere in a line
 * (actions/runner, src/Runner.Common/ActionCommand.cs).
 */
export function withoutWorkflowCommands(text: string): string {
  return text.replace(/^(\s*):(?=:)/gm, '$1: ').replaceAll('##[', '## [')
}

interface Writer {
  write(text: string): unknown
}

/**
 * A group for each step of an image (each layer is one), as long as one step alone is under way: GitHub's groups neither nest
 * nor run beside each other.
 */
export function grouped(screen: Sink, commands: Writer): Sink {
  const running = new Map<string, string>()
  let open: string | undefined
  const close = () => {
    if (open === undefined) return
    open = undefined
    commands.write('::endgroup::\n')
  }
  const begin = (event: Extract<Event, { type: 'step.start' }>) => {
    close()
    running.set(subject(event), event.label)
    if (running.size > 1) return
    open = subject(event)
    commands.write(`::group::${commandData(`${subject(event)}: ${event.label}`)}\n`)
  }
  return (event) => {
    if (event.type === 'step.start') begin(event)
    if (event.type === 'step.end') {
      running.delete(subject(event))
      if (open === subject(event)) close()
    }
    if (event.type === 'run.end') close()
    screen(event)
  }
}

/** Says that the runner itself reads stderr. */
const MASK_VARIABLE = 'IMAGEBUILD_GITHUB_MASK'

/**
 * Has GitHub mask this value in the whole log of the job, where the user has said that the runner reads stderr: anything else
 * that reads it, such as a file or `tee`, would get the secret by this very command, and a pipe does not tell who reads it.
 * Output of this program needs no mask, as it has no secrets in it.
 */
export function mask(
  value: string,
  commands: Writer,
  { env = process.env, isRead = stderrIsRead }: { env?: NodeJS.ProcessEnv; isRead?: () => boolean } = {},
): void {
  const asked = isOnGitHub(env) && /^(1|true|yes)$/i.test(env[MASK_VARIABLE] ?? '')
  if (asked && isRead()) commands.write(`::add-mask::${commandData(value)}\n`)
}

function stderrIsRead(): boolean {
  try {
    const stderr = fstatSync(2)
    return stderr.isFIFO() || stderr.isSocket()
  } catch {
    return false
  }
}

/** What is shown beside a line of a file. */
export type Annotation = Pick<Diagnostic, 'severity' | 'file' | 'line' | 'column' | 'message' | 'hint'>

/** The command that shows it. A file outside of the repository keeps its path. */
export function annotation(
  { severity, file, line, column, message, hint }: Annotation,
  workspace = process.env.GITHUB_WORKSPACE,
): string {
  const place = `file=${commandProperty(inRepository(file, workspace))},line=${line},col=${column}`
  return `::${severity} ${place}::${commandData(hint === undefined ? message : `${message}\n${hint}`)}\n`
}

function inRepository(file: string, workspace: string | undefined): string {
  if (!workspace) return file
  const path = relative(realFolder(workspace), file)
  return path.startsWith('../') ? file : path
}

function realFolder(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

function commandProperty(text: string): string {
  return commandData(text).replaceAll(':', '%3A').replaceAll(',', '%2C')
}

/** As the runner wants the data of a command to be escaped. */
function commandData(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A')
}
