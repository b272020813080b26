import { oneLine } from '../core/printable.ts'
import type { CiResult, ImageOutcome } from './ci-result.ts'
import { formatSeconds } from './render.ts'

/** What `ci run` and `ci report` print: a line for each image, and why it was stale. */
export function formatOutcomes({ images }: Pick<CiResult, 'images'>): string {
  const width = Math.max(0, ...images.map(({ image }) => image.length))
  return images
    .flatMap((one) => [
      `${one.image.padEnd(width)}  ${one.outcome.padEnd(9)}  ${inShort(one)}`.trimEnd(),
      ...one.reasons.map((reason) => `    ${oneLine(reason)}`),
    ])
    .map((line) => `${line}\n`)
    .join('')
}

function inShort({ outcome, before, after, seconds, failure }: ImageOutcome): string {
  if (outcome === 'built') {
    const on = Object.entries(after?.vmids ?? {}).map(([node, vmid]) => `${vmid} on ${node}`)
    return `${before?.version ?? 'nothing'} → ${after?.version}, template ${on.join(', ')}  (${formatSeconds(seconds)})`
  }
  const stays = after === undefined ? 'there is no template' : after.version
  return failure === undefined ? stays : `${stays}; ${oneLine(failure.what)}`
}
