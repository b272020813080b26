import { isAbsolute, relative } from 'node:path'
import { styleText } from 'node:util'
import { ImagebuildError } from '../core/errors.ts'
import { printable } from '../core/printable.ts'

/** One mistake (or doubt) in one of the user's files. Lines and columns count from 1. */
export interface Diagnostic {
  severity: 'error' | 'warning'
  /** absolute path */
  file: string
  line: number
  column: number
  endLine?: number
  /** one past the last character */
  endColumn?: number
  /** what is wrong and what is allowed, one sentence without a full stop */
  message: string
  /** a guess at what was meant, or what to do */
  hint?: string
  /** the lines around it with a gutter of line numbers and carets below; empty where there is no text to show */
  frame: string
}

/** Every mistake of every file that was looked at: `output` holds them rendered, `diagnostics` as data. */
export class InvalidDefinition extends ImagebuildError {
  readonly diagnostics: readonly Diagnostic[]

  constructor(diagnostics: readonly Diagnostic[]) {
    const sorted = sortDiagnostics(diagnostics)
    const first = sorted[0]
    const files = new Set(sorted.map((found) => found.file)).size
    super({
      code: 'definition_invalid',
      what: `${count(sorted.length, 'mistake')} in ${count(files, 'file')}`,
      ...(first && { where: { file: first.file, line: first.line, column: first.column } }),
      output: sorted.flatMap((found) => [...renderDiagnostic(found).split('\n'), '']).slice(0, -1),
      next: 'correct what is marked, then look again with: imagebuild validate',
    })
    this.diagnostics = sorted
  }

  override toJSON(): Record<string, unknown> {
    return { ...super.toJSON(), diagnostics: this.diagnostics }
  }
}

/** By file and place; a mistake that was found in two ways is told once. */
export function sortDiagnostics(diagnostics: readonly Diagnostic[]): Diagnostic[] {
  const once = new Map(diagnostics.map((d) => [`${d.file}\0${d.line}\0${d.column}\0${d.message}`, d]))
  return [...once.values()].sort(
    (a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : 0) || a.line - b.line || a.column - b.column,
  )
}

/** `file:line:column`, the message, the code frame and the hint. `cwd` is what paths are shown relative to. */
export function renderDiagnostic(
  diagnostic: Diagnostic,
  options: { color?: boolean; cwd?: string } = {},
): string {
  const paint = (style: Parameters<typeof styleText>[0], text: string) =>
    options.color ? styleText(style, text, { validateStream: false }) : text
  const { severity, line, column, message, hint } = diagnostic
  const tone = severity === 'error' ? 'red' : 'yellow'
  const place = `${shortPath(diagnostic.file, options.cwd ?? process.cwd())}:${line}:${column}`
  // What people typed is shown as they typed it, but it must not steer the terminal.
  const frame = printable(diagnostic.frame)
    .split('\n')
    .filter((row) => row !== '')
    .map((row) => {
      const [gutter, text] = [row.slice(0, row.indexOf('|') + 1), row.slice(row.indexOf('|') + 1)]
      return paint('dim', gutter) + (/^ *\|$/.test(gutter) ? paint(tone, text) : text)
    })
  return [
    `${paint('bold', printable(place))}: ${paint(tone, severity)}: ${printable(message)}`,
    ...frame,
    ...(hint === undefined ? [] : [`  ${paint('cyan', printable(hint))}`]),
  ].join('\n')
}

/** Half-open span of a text, as places that count from 1. */
export interface Span {
  line: number
  column: number
  endLine: number
  endColumn: number
}

/** Longest piece of a line that a frame shows. */
const FRAME_WIDTH = 120

/** The line before, the line itself with carets under the span, the line after. */
export function codeFrame(lines: readonly string[], span: Span): string {
  const from = Math.max(1, span.line - 1)
  const to = Math.min(lines.length, span.line + 1)
  const width = String(to).length
  // A long line is shown from a little before the mistake.
  const left = span.column > FRAME_WIDTH - 20 ? span.column - 20 : 0
  const rows: string[] = []
  for (let number = from; number <= to; number++) {
    const text = (lines[number - 1] ?? '').replaceAll('\t', ' ').slice(left, left + FRAME_WIDTH)
    // An empty neighbour says nothing.
    if (number !== span.line && text.trim() === '') continue
    rows.push(`  ${String(number).padStart(width)} | ${text}`.trimEnd())
    if (number !== span.line) continue
    const end = span.endLine === span.line ? span.endColumn : (lines[number - 1] ?? '').length + 1
    const carets = Math.min(Math.max(1, end - span.column), FRAME_WIDTH - (span.column - 1 - left))
    rows.push(`  ${' '.repeat(width)} | ${' '.repeat(span.column - 1 - left)}${'^'.repeat(carets)}`)
  }
  return rows.join('\n')
}

function shortPath(file: string, cwd: string): string {
  const short = relative(cwd, file)
  return short === '' || short.startsWith('..') || isAbsolute(short) ? file : short
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
