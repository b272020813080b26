import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs'
import { dirname } from 'node:path'
import { stripVTControlCharacters, styleText } from 'node:util'
import type { Event, RunResult, Sink } from '../core/events.ts'

/**
 * What people and programs see of events. Progress goes to stderr, results to stdout; nothing else in the
 * program writes to either.
 */

export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds)
  if (whole < 60) return `${seconds < 10 ? seconds.toFixed(1) : whole}s`
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${String(whole % 60).padStart(2, '0')}s`
  return `${Math.floor(whole / 3600)}h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')}m`
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10))
  return `${(bytes / 1024 ** power).toFixed(power < 2 ? 0 : 1)} ${units[power]}`
}

/** `debian-base  built  template 9000 on lab  (3m 12s)` */
export function formatResult(result: RunResult): string {
  const templates = result.templates.map(({ vmid, node }) => `${vmid} on ${node}`)
  const word = templates.length > 1 ? 'templates' : 'template'
  const where = templates.length === 0 ? '' : `  ${word} ${templates.join(', ')}`
  const held = result.held ? '  held after a rollback' : ''
  return `${result.image}  ${result.status}${where}${held}  (${formatSeconds(result.seconds)})`
}

/** What an event is about: the image, and the node where it is built on several. */
function subject({ image, node }: { image: string; node?: string }): string {
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
      return options.output ? `${subject(event)} | ${stripVTControlCharacters(event.line)}` : undefined
    case 'info':
      return `${prefix(event)}${event.message}`
    case 'warning':
      return `${prefix(event)}warning: ${event.message}`
    case 'leak':
      return `${prefix(event)}LEFT BEHIND: ${event.resource}: ${event.why}; ${event.next}`
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
  return (event) => {
    const line = eventLine(event, { output: true })
    if (line === undefined) return
    out.write(`[${((performance.now() - started) / 1000).toFixed(1).padStart(6)}] ${line}\n`)
  }
}

/** Everything, with the time of day, into a file that is there to be read afterwards: from the first line on. */
export function logFile(path: string): Sink & { close(): Promise<void> } {
  let file: WriteStream | undefined
  const sink: Sink = (event) => {
    const line = event.type === 'image.end' ? resultLine(event.result) : eventLine(event, { output: true })
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

/** How an image ended; of one that was unchanged there is nothing to read. */
function resultLine(result: RunResult): string | undefined {
  if (result.status === 'unchanged') return undefined
  const { what, why } = result.error ?? {}
  return [formatResult(result), what, why].filter((part) => part !== undefined).join(': ')
}

/** One JSON object per line, as `run --json` promises. */
export function jsonRenderer(out: Writer): Sink {
  return (event) => out.write(`${JSON.stringify(event)}\n`)
}

/** Milliseconds between two paintings of the live lines. */
const FRAME = 100

/**
 * One live line per image (and node, where there are several): its step, the last line of output, how long it has been at it. Finished steps,
 * warnings and leaks scroll by above.
 */
export class TerminalRenderer implements Disposable {
  readonly #out: NodeJS.WriteStream
  readonly #lines = new Map<string, LiveLine>()
  readonly #timer: NodeJS.Timeout
  /** the live lines that are on the screen */
  #painted: string[] = []

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
    this.#timer = setInterval(() => this.#paint(), FRAME)
    this.#timer.unref()
    out.write('\x1b[?25l')
    // Also where the process is told to leave at once.
    process.once('exit', this.#showCursor)
  }

  readonly #showCursor = () => {
    this.#out.write('\x1b[?25h')
  }

  #style(format: Parameters<typeof styleText>[0], text: string): string {
    return styleText(format, text, { stream: this.#out })
  }

  readonly sink: Sink = (event) => {
    if (event.type === 'step.start') {
      const line = this.#line(subject(event))
      line.label = event.label
      line.since = performance.now()
      line.detail = ''
    } else if (event.type === 'step.end') {
      const mark = event.ok ? this.#style('green', '✓') : this.#style('red', '✗')
      this.#print(
        `${mark} ${subject(event)}  ${event.label}  ${this.#style('dim', formatSeconds(event.seconds))}`,
      )
      this.#line(subject(event)).label = ''
    } else if (event.type === 'output') {
      this.#line(subject(event)).detail = event.line
    } else if (event.type === 'progress') {
      const share =
        event.total === undefined
          ? ''
          : ` of ${formatBytes(event.total)} (${Math.floor((100 * event.done) / event.total)} %)`
      this.#line(subject(event)).detail = `${formatBytes(event.done)}${share}`
    } else if (event.type === 'image.end') {
      for (const name of this.#lines.keys()) {
        if (name === event.image || name.startsWith(`${event.image} (`)) this.#lines.delete(name)
      }
      this.#paint()
    } else {
      const line = eventLine(event, { output: false })
      if (line !== undefined)
        this.#print(event.type === 'warning' || event.type === 'leak' ? this.#style('yellow', line) : line)
    }
  }

  #line(image: string): LiveLine {
    let line = this.#lines.get(image)
    if (line === undefined) {
      const now = performance.now()
      line = { label: '', detail: '', since: now, started: now }
      this.#lines.set(image, line)
    }
    return line
  }

  #print(text: string): void {
    this.#out.write(`${this.#clear()}${text}\n${this.#frame()}`)
  }

  #paint(): void {
    const before = this.#painted
    const clear = this.#clear()
    const frame = this.#frame()
    // What stands there already is not written again: it would only flicker.
    if (clear !== '' && before.join('\n') === this.#painted.join('\n')) return
    this.#out.write(clear + frame)
  }

  /** What takes the live lines away. A window that was made narrower has wrapped them. */
  #clear(): string {
    const width = this.#out.columns || 80
    const rows = this.#painted.reduce(
      (sum, line) => sum + Math.max(1, Math.ceil([...line].length / width)),
      0,
    )
    this.#painted = []
    return rows === 0 ? '' : `\x1b[${rows}F\x1b[J`
  }

  /** The live lines, anew. They do not wrap: wide characters take more room than can be told here. */
  #frame(): string {
    const now = performance.now()
    for (const [image, line] of this.#lines) {
      if (line.label !== '') this.#painted.push(liveLine(image, line, now, (this.#out.columns || 80) - 1))
    }
    return this.#painted.length === 0 ? '' : `\x1b[?7l${this.#painted.join('\n')}\n\x1b[?7h`
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    this.#out.write(this.#clear())
    process.off('exit', this.#showCursor)
    this.#showCursor()
  }
}

/** Step, its time and the image's, last output. A long step leaves room for the output. */
function liveLine(image: string, line: LiveLine, now: number, width: number): string {
  const times = `${formatSeconds((now - line.since) / 1000)} / ${formatSeconds((now - line.started) / 1000)}`
  const detail = printable(line.detail).trimStart()
  const room = width - `… ${image}    ${times}  `.length
  const label = shorten(printable(line.label), detail === '' ? room + 2 : Math.ceil(room * 0.55))
  return shorten(`… ${image}  ${label}  ${times}  ${detail}`.trimEnd(), width)
}

/** At most `width` characters; an ellipsis stands for the rest. */
function shorten(text: string, width: number): string {
  const characters = [...text]
  return characters.length <= width ? text : `${characters.slice(0, Math.max(0, width - 1)).join('')}…`
}

/** Nothing that moves the cursor: a live line must stay one line. */
function printable(text: string): string {
  return stripVTControlCharacters(text)
    .replace(/\p{Cc}+/gu, ' ')
    .trimEnd()
}

interface LiveLine {
  label: string
  detail: string
  since: number
  started: number
}
