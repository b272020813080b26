import { resolve } from 'node:path'
import { inRepository, listsOf, type RecordsAt } from './ci-records.ts'
import type { ImageOutcome } from './ci-result.ts'
import { LOCKFILE, readLockfile } from './lockfile.ts'
import { areListed } from './package-files.ts'

/** What a run has written down, and what it could not. */

/** The template stays; its change would be lost. Why was said when it was tried. */
export async function unwritten(
  { root, target }: RecordsAt,
  outcomes: readonly ImageOutcome[],
): Promise<string[]> {
  const locked = await readLockfile(root).then(
    ({ targets }) => targets[target] ?? {},
    () => ({}) as Record<string, never>,
  )
  const problems: string[] = []
  for (const { image, outcome, after } of outcomes) {
    if (outcome !== 'built' || after === undefined) continue
    const { version, vmids } = after
    const isThere =
      locked[image]?.version === version &&
      (await areListed(root, { target, image, version, nodes: Object.keys(vmids) }))
    if (!isThere)
      problems.push(`${LOCKFILE} and the list of packages do not have ${image} ${version}, which is current`)
  }
  return problems
}

/** With what another job needs to write it down, and places as a repository has them. */
export async function withRecords(
  at: RecordsAt,
  outcome: ImageOutcome,
  before: Readonly<Record<string, unknown>>,
): Promise<ImageOutcome> {
  const { image, failure } = outcome
  const lock = (await readLockfile(at.root).catch(() => undefined))?.targets[at.target]?.[image]
  const isOther = lock !== undefined && JSON.stringify(lock) !== JSON.stringify(before[image])
  const where = failure?.where
  return {
    ...outcome,
    ...(isOther && { lock, packages: await listsOf(at, image, Object.keys(lock.templates)) }),
    ...(failure &&
      where && {
        failure: { ...failure, where: { ...where, file: inRepository(at, resolve(at.root, where.file)) } },
      }),
  }
}
