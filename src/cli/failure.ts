import type { ErrorCode, ImagebuildError } from '../core/errors.ts'
import { oneLine, printable } from '../core/printable.ts'
import { asCalled } from './called.ts'
import { fitting } from './lab-hints.ts'
import { style, withoutSecrets } from './output.ts'

/** What has nothing to do with who answered. */
const OWN_AFFAIR = new Set<ErrorCode>([
  'usage',
  'definition_invalid',
  'prerequisite_missing',
  'interrupted',
  'terminated',
])

const answerer = (error: ImagebuildError, talksTo: string | undefined) =>
  OWN_AFFAIR.has(error.code) ? undefined : talksTo

/** An error in results: with `on`, where who answered may matter. */
export function failureAsJson(error: ImagebuildError, talksTo: string | undefined): Record<string, unknown> {
  const on = answerer(error, talksTo)
  const { next } = error
  return {
    ...error.toJSON(),
    ...(next !== undefined && { next: fitting(next) }),
    ...(on !== undefined && { on }),
  }
}

/** An error for a person, on stderr: what, where, why, the last output, what to do. */
export function renderFailure(
  thrown: ImagebuildError,
  options: { debug: boolean; talksTo?: string },
): string {
  const error = asShown(thrown)
  const lines = [`${style('stderr', 'red', 'error:')} ${error.what}`]
  if (error.where !== undefined) lines.push(`  at ${error.where}`)
  if (error.why) lines.push(...error.why.split('\n').map((line) => `  ${line}`))
  if (error.output.length > 0)
    lines.push('', ...error.output.map((line) => `  ${style('stderr', 'dim', '|')} ${line}`), '')
  const answered = answerer(thrown, options.talksTo)
  if (answered !== undefined) lines.push(`  on ${printable(answered)}`)
  if (error.next) lines.push(`  ${style('stderr', 'cyan', '→')} ${error.next}`)
  if (options.debug) lines.push('', ...stacks(thrown).map(printable))
  return `${lines.join('\n')}\n`
}

/** The same in five lines at most, for the end of a log: what, where, why, the last that was printed, what to do. */
export function failureInShort(thrown: ImagebuildError): string {
  const { what, where, why, output, next } = asShown(thrown)
  const [last] = output.filter((line) => line.trim() !== '').slice(-1)
  const lines = [
    `error: ${what}`,
    where && `  at ${where}`,
    why && `  ${why}`,
    last === undefined ? undefined : `  | ${last}`,
    next && `  → ${next}`,
  ]
  return lines.map((line) => (line ? `${shortened(oneLine(line))}\n` : '')).join('')
}

/** Characters of a line at the end of a log: two rows of a wide window. */
const SHORT = 300

function shortened(line: string): string {
  return line.length <= SHORT ? line : `${line.slice(0, SHORT)}…`
}

/** Its parts as a person may read them, without secrets and without anything that steers a terminal. */
function asShown(thrown: ImagebuildError) {
  const { what, where, why, output, next } = withoutSecrets(partsOf(thrown))
  return {
    what: printable(asCalled(what)),
    where: where && printable(`${where.file}:${where.line}:${where.column}`),
    why: why && printable(asCalled(why)),
    output: output.map(printable),
    next: next && printable(asCalled(next)),
  }
}

function partsOf({ what, where, why, output, next }: ImagebuildError) {
  return { what, where, why, output, next }
}

function stacks(error: unknown): string[] {
  if (!(error instanceof Error)) return []
  return [error.stack ?? error.message, ...stacks(error.cause).map((line) => `caused by ${line}`)]
}
