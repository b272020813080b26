import { stripVTControlCharacters, styleText } from 'node:util'
import type { ErrorCode, ImagebuildError } from '../core/errors.ts'
import { asCalled } from './called.ts'
import { fitting } from './lab-hints.ts'

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
  const error = {
    ...{ what: asCalled(thrown.what), where: thrown.where, output: thrown.output, code: thrown.code },
    why: thrown.why && asCalled(thrown.why),
    next: thrown.next && asCalled(thrown.next),
  }
  const style = (format: 'red' | 'dim' | 'cyan', text: string) =>
    styleText(format, text, { stream: process.stderr })
  const lines = [`${style('red', 'error:')} ${error.what}`]
  if (error.where) lines.push(`  at ${error.where.file}:${error.where.line}:${error.where.column}`)
  if (error.why !== undefined) lines.push(...error.why.split('\n').map((line) => `  ${line}`))
  if (error.output.length > 0)
    lines.push(
      '',
      ...error.output.map((line) => `  ${style('dim', '|')} ${stripVTControlCharacters(line)}`),
      '',
    )
  const answered = answerer(thrown, options.talksTo)
  if (answered !== undefined) lines.push(`  on ${answered}`)
  if (error.next !== undefined) lines.push(`  ${style('cyan', '→')} ${error.next}`)
  if (options.debug) lines.push('', ...stacks(thrown))
  return `${lines.join('\n')}\n`
}

function stacks(error: unknown): string[] {
  if (!(error instanceof Error)) return []
  return [error.stack ?? error.message, ...stacks(error.cause).map((line) => `caused by ${line}`)]
}
