import type { Note } from '../pve/marks.ts'
import { compareVersions } from '../source/debian-version.ts'
import type { InstalledPackage } from '../updates/pending.ts'
import { type ImageState, marksOfUnmended, type StaleUpdate, stillPending } from './staleness.ts'

/** What a rebuild was asked to mend, and what it has not. Pure. */

type Asked = Pick<ImageState, 'reasons' | 'note'>

/**
 * Whether a template, by its note and its packages, has what an image was stale for. Another run may have made it meanwhile, or
 * one that was cut off before it was verified.
 * @param maxAge seconds, where there is one
 */
export function mendsAll(
  { reasons, note: before }: Asked,
  { maxAge, now }: { maxAge: number | undefined; now: () => Date },
): (note: Note, packages: readonly InstalledPackage[]) => boolean {
  const kinds = new Set(reasons.map(({ kind }) => kind))
  const updates = updatesOf(reasons)
  return (note, packages) => {
    const age = (now().getTime() - new Date(note.built ?? 0).getTime()) / 1000
    if (kinds.has('age') && maxAge !== undefined && age > maxAge) return false
    if (kinds.has('parent') && note.source?.version === before?.source?.version) return false
    return stillPending(updates, note.unmended ?? []).every((update) => !isLacking(update, packages))
  }
}

/**
 * Names for the note of a result: updates that it was built for, or an earlier one was, and that are pending all the same. What
 * came up while it was built is none of them.
 * @param pending what the result lacks, by the indexes
 */
export function unmendedOf({ reasons, note }: Asked, pending: readonly StaleUpdate[]): string[] {
  const known = [...marksOfUnmended(updatesOf(reasons)), ...(note?.unmended ?? [])]
  return marksOfUnmended(without(pending, stillPending(pending, known)))
}

function updatesOf(reasons: Asked['reasons']): StaleUpdate[] {
  return reasons.flatMap(({ update }) => update ?? [])
}

function isLacking(
  { package: name, architecture, available }: StaleUpdate,
  packages: readonly InstalledPackage[],
) {
  return packages.some(
    (one) =>
      one.name === name && one.architecture === architecture && compareVersions(one.version, available) < 0,
  )
}

function without<T>(all: readonly T[], these: readonly T[]): T[] {
  return all.filter((one) => !these.includes(one))
}
