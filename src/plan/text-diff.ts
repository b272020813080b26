import { diffArrays, structuredPatch } from 'diff'

/** How two texts, or two lists, differ. */

/** Lines around a change. */
const CONTEXT = 2

/** Changed lines; what differs more is not worth reading, and takes long to compare. */
const MOST_CHANGES = 2000

/**
 * The lines that differ, and some around them, as unified diffs show them: `-` gone, `+` new, a space for both.
 * Undefined where they are the same, or have next to nothing in common.
 */
export function textDiff(before: string, after: string): string | undefined {
  const patch = structuredPatch('', '', ended(before), ended(after), '', '', {
    context: CONTEXT,
    maxEditLength: MOST_CHANGES,
  })
  if (patch === undefined || patch.hunks.length === 0) return undefined
  return patch.hunks.map(({ lines }) => lines.join('\n')).join('\n…\n')
}

/** Whether a text ends with a line end is seen by digests, and is no difference to show. */
function ended(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`
}

/** One place where two lists differ: positions from 0, in the old list and in the new one. */
export interface Difference {
  gone: number[]
  added: number[]
}

export function listDifferences(before: readonly string[], after: readonly string[]): Difference[] {
  const found: Difference[] = []
  let [old, now, open] = [0, 0, false]
  for (const { value, added, removed } of diffArrays([...before], [...after])) {
    if (!added && !removed) {
      old += value.length
      now += value.length
      open = false
      continue
    }
    if (!open) found.push({ gone: [], added: [] })
    open = true
    const last = found.at(-1) as Difference
    for (const _ of value) (removed ? last.gone : last.added).push(removed ? old++ : now++)
  }
  return found
}
