import { ImagebuildError } from '../core/errors.ts'
import { fileChunks } from '../core/file-chunks.ts'
import { confirmUnchanged } from '../source/cache.ts'
import type { CachedFile, SourceContext } from '../source/context.ts'
import type { Urgency, Vulnerability } from './vulnerability.ts'

/** Everything that Debian's security team knows, by source package: some 70 MB. */
export const DEBIAN_TRACKER = 'https://security-tracker.debian.org/tracker/data/json'

/** As the tracker calls them; `not yet assigned` is none. Packages without support get no fix, so theirs does not matter. */
const URGENCIES: Record<string, Urgency> = {
  'end-of-life': 'negligible',
  unimportant: 'negligible',
  low: 'low',
  medium: 'medium',
  high: 'high',
}

/** One vulnerability of one source package, as the tracker has it. */
interface TrackerEntry {
  releases?: Record<string, { status?: string; fixed_version?: string; urgency?: string } | undefined>
}

/**
 * What is fixed in a release, from the tracker's file as it streams by: as one value it takes half a gigabyte of memory.
 * @param codename `trixie`
 * @throws ImagebuildError `build_failed` if it is not of that form
 */
export async function readDebianTracker(
  file: CachedFile,
  codename: string,
  { signal }: Pick<SourceContext, 'signal'>,
): Promise<Map<string, Vulnerability[]>> {
  const { JSONParser } = await import('@streamparser/json')
  const found = new Map<string, Vulnerability[]>()
  const parser = new JSONParser({ paths: ['$.*'], keepStack: false })
  parser.onValue = ({ key, value }) => {
    const fixed = Object.entries((value ?? {}) as Record<string, TrackerEntry>).flatMap(([id, entry]) =>
      ofRelease(id, entry, codename),
    )
    if (fixed.length > 0) found.set(String(key), fixed)
  }
  let failure: Error | undefined
  parser.onError = (error) => {
    failure = error
  }
  for await (const chunk of fileChunks(file.path, signal)) {
    parser.write(chunk)
    if (failure !== undefined) break
  }
  if (failure === undefined && !parser.isEnded) failure = new Error('it is cut off')
  if (failure !== undefined) {
    throw new ImagebuildError({
      code: 'build_failed',
      what: "the file of Debian's security tracker cannot be read",
      why: failure.message,
      cause: failure,
    })
  }
  await confirmUnchanged(file, signal)
  return found
}

/** `resolved` with the fixed version 0: this release never had it. */
function ofRelease(id: string, entry: TrackerEntry, codename: string): Vulnerability[] {
  const { status, fixed_version: fixed, urgency = '' } = entry.releases?.[codename] ?? {}
  if (status !== 'resolved' || fixed === undefined || fixed === '' || fixed === '0') return []
  // A star is the tracker's own note that the urgency was derived.
  return [{ id, urgency: URGENCIES[urgency.replace(/\*+$/, '')] ?? null, fixed }]
}
