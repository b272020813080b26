import { relative, resolve } from 'node:path'
import type { ImagebuildError } from '../core/errors.ts'
import { oneLine } from '../core/printable.ts'
import type { Diagnostic } from '../definition/diagnostics.ts'
import type { Family, ImageState, StaleKind, StaleReason } from '../plan/staleness.ts'
import { failureAsJson } from './failure.ts'
import { style } from './output.ts'

/** What `ci plan` prints. */

/** Schema 1. `warnings` are about the definitions, as `validate --json` prints them. */
export function statesAsJson(
  states: readonly ImageState[],
  more: {
    target: string
    families: readonly Family[]
    suites: Record<string, string>
    warnings: readonly Diagnostic[]
  },
  failures: ReadonlyMap<string, ImagebuildError>,
  talksTo?: string,
): Record<string, unknown> {
  const images = states.map(({ image, state, action, reasons, digest, templates }) => {
    const failure = failures.get(image)
    return {
      ...{ image, state, action, reasons, templates },
      ...(digest !== '' && { digest }),
      ...(failure && { error: failureAsJson(failure, talksTo) }),
    }
  })
  return { schema: 1, ...more, images }
}

const COLOURS = {
  fresh: 'dim',
  stale: 'yellow',
  held: 'magenta',
  paused: 'magenta',
  unknown: 'red',
} as const satisfies Record<ImageState['state'], string>

const KINDS: readonly StaleKind[] = [
  ...(['definition', 'source', 'parent', 'age', 'security', 'updates', 'verify'] as const),
  ...(['missing', 'unknown'] as const),
]

/** Reasons of one kind for people; JSON has them all. */
const MOST_REASONS = 20

/** One line for each image, and its reasons below it, by their kinds. */
export function formatStates(states: readonly ImageState[], root: string): string {
  const width = Math.max(0, ...states.map(({ image }) => image.length))
  const lines = states.flatMap((one) => {
    const head = `${one.image.padEnd(width)}  ${style('stdout', COLOURS[one.state], one.state.padEnd(7))}  ${inShort(one)}`
    return [head.trimEnd(), ...KINDS.flatMap((kind) => ofKind(one.reasons, kind, root))]
  })
  return lines.map((line) => `${line}\n`).join('')
}

/** What is done about it. */
function inShort({ image, state, action, templates, note }: ImageState): string {
  const version = templates[0]?.version ?? ''
  switch (state) {
    case 'fresh':
      return version
    case 'stale':
      return {
        nothing: '',
        verify: 'clones of it are examined, nothing is built',
        build: 'to be built',
        refresh: 'to be built, with all packages upgraded',
      }[action]
    case 'held':
      return `rolled back to ${version}; \`imagebuild promote\` or \`imagebuild run ${image} --force\` ends that`
    case 'paused':
      return `${note?.failures?.count} builds in a row failed for these reasons; \`imagebuild ci resume ${image}\` ends that`
    case 'unknown':
      return 'cannot be told'
  }
}

function ofKind(reasons: readonly StaleReason[], kind: StaleKind, root: string): string[] {
  const found = reasons.filter((reason) => reason.kind === kind)
  const rest = found.length - MOST_REASONS
  const lines = found.slice(0, MOST_REASONS).map(({ text, where }) => {
    const place = where && `${relative(process.cwd(), resolve(root, where.file))}:${where.line}`
    return `${oneLine(text)}${place === undefined ? '' : style('stdout', 'dim', `  ${place}`)}`
  })
  if (rest > 0) lines.push(`… and ${rest} more`)
  const label = Math.max(...KINDS.map((name) => name.length))
  return lines.map((line, index) => `    ${(index === 0 ? kind : '').padEnd(label)}  ${line}`)
}
