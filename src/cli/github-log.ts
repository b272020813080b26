import { fstatSync } from 'node:fs'
import { relative } from 'node:path'
import type { Event, Sink } from '../core/events.ts'
import { printable } from '../core/printable.ts'
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

/** Has GitHub show a mistake, or a doubt, at its line of the file in a pull request. Paths are from the repository's root. */
export function annotate(found: Diagnostic, commands: Writer, root = process.env.GITHUB_WORKSPACE): void {
  const { severity, file, line, column, message, hint } = found
  const place = { file: relative(root || process.cwd(), file), line, col: column }
  const properties = Object.entries(place).map(([name, value]) => `${name}=${commandProperty(String(value))}`)
  const text = printable(hint === undefined ? message : `${message}\n${hint}`)
  commands.write(`::${severity} ${properties.join(',')}::${commandData(text)}\n`)
}

function commandProperty(text: string): string {
  return commandData(printable(text)).replaceAll(':', '%3A').replaceAll(',', '%2C')
}

/** As the runner wants the data of a command to be escaped. */
function commandData(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A')
}
