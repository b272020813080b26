import { styleText } from 'node:util'
import { formatBytes } from '../core/bytes.ts'
import type { Sink } from '../core/events.ts'
import { oneLine, REPLACEMENT } from '../core/printable.ts'
import { endLine, eventLine, formatSeconds, subject } from './render.ts'

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
  /** how each image ended is only news where the run goes on */
  #several = false
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
    } else if (event.type === 'run.start') {
      this.#several = event.images.length > 1
    } else if (event.type === 'image.end') {
      for (const name of this.#lines.keys()) {
        if (name === event.image || name.startsWith(`${event.image} (`)) this.#lines.delete(name)
      }
      if (this.#several) this.#print(endLine(event.result))
      else this.#paint()
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
    // What is higher than the window could not be taken away again.
    const most = Math.max(1, (this.#out.rows || 24) - 2)
    const hidden = this.#painted.length - most
    if (hidden > 0) this.#painted.splice(most - 1, hidden + 1, `… and ${hidden + 1} more`)
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
  const detail = inLine(line.detail).trimStart()
  const room = width - `… ${image}    ${times}  `.length
  const label = shorten(inLine(line.label), detail === '' ? room + 2 : Math.ceil(room * 0.55))
  return shorten(`… ${image}  ${label}  ${times}  ${detail}`.trimEnd(), width)
}

/** At most `width` characters; an ellipsis stands for the rest. */
function shorten(text: string, width: number): string {
  const characters = [...text]
  return characters.length <= width ? text : `${characters.slice(0, Math.max(0, width - 1)).join('')}…`
}

/** Nothing that moves the cursor: a live line must stay one line. */
function inLine(text: string): string {
  return oneLine(text).replaceAll(REPLACEMENT, ' ').trimEnd()
}

interface LiveLine {
  label: string
  detail: string
  since: number
  started: number
}
