import type { PlanRecord, RecordedLayer } from './record.ts'
import { textDiff } from './text-diff.ts'

/** A file that a `file` layer of one of two images puts there, and that of the other does not, or not so. */
export interface FileChange {
  path: string
  /** mode, owner and digest of the content; null: no layer puts it there */
  before: string | null
  after: string | null
  /** the lines that differ, as unified diffs show them, where both records have them */
  lines?: string
}

/** What differs between the `file` layers of two images, the hardening's and the certificates' too. Sorted by path. */
export function compareFileLayers(before: PlanRecord, after: PlanRecord): FileChange[] {
  const [old, now] = [filesOf(before), filesOf(after)]
  const paths = [...new Set([...old.keys(), ...now.keys()])].sort()
  return paths.flatMap((path) => {
    const [a, b] = [old.get(path), now.get(path)]
    if (a?.told === b?.told) return []
    const lines = a?.text === undefined || b?.text === undefined ? undefined : textDiff(a.text, b.text)
    const change = { path, before: a?.told ?? null, after: b?.told ?? null }
    return [{ ...change, ...(lines !== undefined && { lines }) }]
  })
}

interface PlacedFile {
  told: string
  text: string | undefined
}

/** By path. Of two layers that write one file, the later one counts. */
function filesOf({ layers }: PlanRecord): Map<string, PlacedFile> {
  return new Map(
    layers.flatMap(({ identity, text }) => {
      const { file, mode, owner, content } = identity as FileIdentity
      if (file === undefined) return []
      return [[file, { told: `${mode} ${owner} ${content}`, text }] as const]
    }),
  )
}

/** What a `file` layer contributes to the digest; another layer has no `file`. */
type FileIdentity = RecordedLayer['identity'] & { [key in 'file' | 'mode' | 'owner' | 'content']?: string }
