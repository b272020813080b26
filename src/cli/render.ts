import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs'
import { dirname } from 'node:path'
import type { Event, RunResult, Sink } from '../core/events.ts'
import { printable } from '../core/printable.ts'
import { asCalled } from './called.ts'
import { fitting } from './lab-hints.ts'

/**
 * What people and programs see of events. Progress goes to stderr, results to stdout, both by `output.ts`.
 */

export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds)
  if (whole < 60) return `${seconds < 10 ? seconds.toFixed(1) : whole}s`
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${String(whole % 60).padStart(2, '0')}s`
  return `${Math.floor(whole / 3600)}h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')}m`
}

/** `debian-base  built  template 9000 on lab  (3m 12s)` */
export function formatResult(result: RunResult): string {
  const templates = result.templates.map(({ vmid, node }) => `${vmid} on ${node}`)
  const word = templates.length > 1 ? 'templates' : 'template'
  const where = templates.length === 0 ? '' : `  ${word} ${templates.join(', ')}`
  const held = result.held ? '  held after a rollback' : ''
  const away =
    result.swapSeconds === undefined ? '' : `  its VMID was away for ${formatSeconds(result.swapSeconds)}`
  return `${result.image}  ${result.status}${where}${held}${away}  (${formatSeconds(result.seconds)})`
}

/** What an event is about: the image, and the node where it is built on several. */
export function subject({ image, node }: { image: string; node?: string }): string {
  return node === undefined ? image : `${image} (${node})`
}

function prefix({ image, node }: { image?: string; node?: string }): string {
  return image === undefined ? '' : `${subject({ image, ...(node !== undefined && { node }) })}: `
}

/** One line per event, for logs and for terminals that cannot move the cursor. */
export function eventLine(event: Event, options: { output: boolean }): string | undefined {
  switch (event.type) {
    case 'step.start':
      return `${subject(event)}: ${event.label}`
    case 'step.end':
      return event.ok
        ? `${subject(event)}: ${event.label}: done in ${formatSeconds(event.seconds)}`
        : `${subject(event)}: ${event.label}: failed after ${formatSeconds(event.seconds)}`
    case 'output':
      return options.output ? `${subject(event)} | ${printable(event.line)}` : undefined
    case 'pause':
      return `imagebuild did not run for ${formatSeconds(event.seconds)}: this machine was suspended, the process was stopped, or it got no processor time (or the clock was set). Deadlines wait for as long`
    case 'info':
      return `${prefix(event)}${asCalled(event.message)}`
    case 'warning':
      return `${prefix(event)}warning: ${asCalled(event.message)}`
    case 'leak':
      return `${prefix(event)}LEFT BEHIND: ${event.resource}: ${event.why}; ${asCalled(event.next)}`
    case 'image.start':
      return `${event.image}: building on ${event.target} (${event.digest.slice(0, 19)}…)`
    default:
      return undefined
  }
}

type Writer = { write(text: string): unknown }

/** Plain lines, each with the seconds since the start: for CI logs and pipes. */
export function plainRenderer(out: Writer): Sink {
  const started = performance.now()
  let several = false
  return (event) => {
    if (event.type === 'run.start') several = event.images.length > 1
    const ended = several && event.type === 'image.end'
    const line = ended ? endLine(event.result) : eventLine(event, { output: true })
    if (line === undefined) return
    out.write(`[${((performance.now() - started) / 1000).toFixed(1).padStart(6)}] ${line}\n`)
  }
}

/** Everything, with the time of day, into a file that is there to be read afterwards: from the first line on. */
export function logFile(path: string): Sink & { close(): Promise<void> } {
  let file: WriteStream | undefined
  const sink: Sink = (event) => {
    const line = event.type === 'image.end' ? logLine(event.result) : eventLine(event, { output: true })
    if (line === undefined) return
    file ??= openLog(path)
    file.write(`${new Date().toISOString()} ${line}\n`)
  }
  const close = () => new Promise<void>((resolve) => (file ? file.end(() => resolve()) : resolve()))
  return Object.assign(sink, { close })
}

/** A log that cannot be written is no reason to lose a build. */
function openLog(path: string): WriteStream {
  try {
    mkdirSync(dirname(path), { recursive: true })
  } catch {
    // The stream fails for the same reason.
  }
  return createWriteStream(path, { flags: 'a', mode: 0o600 }).on('error', () => undefined)
}

/** Of an image that was unchanged there is nothing to read. */
function logLine(result: RunResult): string | undefined {
  return result.status === 'unchanged' ? undefined : endLine(result)
}

/** How an image ended. */
export function endLine(result: RunResult): string {
  const { what, why } = result.error ?? {}
  return [formatResult(result), what, why].filter((part) => part !== undefined).join(': ')
}

/** One JSON object per line, as `run --json` promises. */
export function jsonRenderer(out: Writer): Sink {
  return (event) => {
    const told = event.type === 'leak' ? { ...event, next: fitting(event.next) } : event
    out.write(`${JSON.stringify(told)}\n`)
  }
}
