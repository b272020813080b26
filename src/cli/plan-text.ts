import { relative, resolve } from 'node:path'
import type { Foresight } from '../build/foresee.ts'
import type { ImagebuildError } from '../core/errors.ts'
import { oneLine, printable } from '../core/printable.ts'
import type { Diagnostic } from '../definition/diagnostics.ts'
import type { Reason } from '../plan/reason.ts'
import { failureAsJson } from './failure.ts'
import { style } from './output.ts'

/** What `plan` prints. */

/** One image: what would be done, or why that cannot be told. */
export interface Planned {
  image: string
  foresight?: Foresight
  error?: ImagebuildError
  /** its parent, of which it cannot be told */
  skippedBy?: string
}

/** Lines of one difference for people; JSON has them all. */
const MOST_LINES = 60

/**
 * Schema 1. `action`: build, rebuild, verify, move, nothing, held, failed or skipped. `warnings` are about the
 * definitions, as `validate --json` prints them.
 */
export function planAsJson(
  planned: readonly Planned[],
  more: { target: string; changes: number; warnings: readonly Diagnostic[] },
  talksTo?: string,
): Record<string, unknown> {
  const images = planned.map((one) => {
    const { templates = [], digest } = one.foresight ?? {}
    return {
      image: one.image,
      action: actionOf(one),
      reasons: reasonsOf(one),
      templates,
      ...(digest !== undefined && { digest }),
      ...(one.error && { error: failureAsJson(one.error, talksTo) }),
    }
  })
  return { schema: 1, ...more, images }
}

/** One line for each image, and with `explain` everything that is known below it. */
export function formatPlan(
  planned: readonly Planned[],
  { explain, root }: { explain: boolean; root: string },
): string {
  const width = Math.max(0, ...planned.map(({ image }) => image.length))
  const lines = planned.flatMap((one) => {
    const action = actionOf(one)
    const head = `${one.image.padEnd(width)}  ${style('stdout', COLOURS[action], action.padEnd(7))}`
    const reasons = explain ? reasonsOf(one) : []
    if (reasons.length === 0) return [`${head}  ${inShort(one)}`.trimEnd()]
    return [head.trimEnd(), ...reasons.flatMap((reason) => explained(reason, root))]
  })
  return lines.map((line) => `${line}\n`).join('')
}

type Action = Foresight['action'] | 'failed' | 'skipped'

const COLOURS = {
  build: 'green',
  rebuild: 'yellow',
  verify: 'cyan',
  move: 'cyan',
  nothing: 'dim',
  held: 'magenta',
  failed: 'red',
  skipped: 'red',
} as const satisfies Record<Action, string>

function actionOf({ foresight, error }: Planned): Action {
  return foresight?.action ?? (error === undefined ? 'skipped' : 'failed')
}

function reasonsOf({ image, foresight, error, skippedBy }: Planned): Reason[] {
  if (foresight !== undefined) return foresight.reasons
  const text = error?.what ?? `nobody knows what becomes of its parent ${skippedBy}`
  return [
    error === undefined
      ? { kind: 'parent', subject: skippedBy ?? '', text }
      : { kind: 'unknown', subject: image, text },
  ]
}

/** The first reason says most; of something that is as it should be, which one it is. */
function inShort(one: Planned): string {
  const [first, ...more] = reasonsOf(one)
  const [template] = one.foresight?.templates ?? []
  if (first === undefined) return template === undefined ? '' : `${template.version} is up to date`
  return `${oneLine(first.text)}${more.length === 0 ? '' : ` (and ${more.length} more)`}`
}

function explained({ text, where, diff }: Reason, root: string): string[] {
  const place = where && `${relative(process.cwd(), resolve(root, where.file))}:${where.line}`
  const lines = diff?.split('\n') ?? []
  const rest = lines.length - MOST_LINES
  return [
    `    ${oneLine(text)}${place === undefined ? '' : style('stdout', 'dim', `  ${place}`)}`,
    ...lines.slice(0, MOST_LINES).map((line) => {
      const colour = line.startsWith('+') ? 'green' : line.startsWith('-') ? 'red' : 'dim'
      return `        ${style('stdout', colour, printable(line))}`.trimEnd()
    }),
    ...(rest > 0 ? [`        … ${rest} more lines`] : []),
  ]
}
