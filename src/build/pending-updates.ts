import pLimit from 'p-limit'
import { asImagebuildError, type ImagebuildError } from '../core/errors.ts'
import { type Emit, step } from '../core/events.ts'
import type { Ci } from '../definition/ci-schema.ts'
import type { Repository } from '../definition/spec.ts'
import { type StaleReason, staleByUpdates, stillPending } from '../plan/staleness.ts'
import type { SourceContext } from '../source/context.ts'
import { type PackageIndex, readIndex } from '../updates/package-index.ts'
import type { PackageList } from '../updates/package-list.ts'
import { datesSeen, type PendingUpdate, pendingUpdates } from '../updates/pending.ts'
import { readSecurityData } from '../updates/security-data.ts'
import { suiteKey } from '../updates/suite.ts'
import { judgeSecurity, type SecurityData } from '../updates/vulnerability.ts'
import type { Recorded } from './recorded-packages.ts'
import {
  identityOf,
  type Mirrors,
  type Reading,
  readingsOf,
  suitesOf,
  type UsedSuite,
} from './update-suites.ts'

/** What the suites of images have newer than what is recorded of them, as reasons to build anew. */

export interface UpdateQuestion {
  ci: Pick<Ci, 'security' | 'updates'>
  mirrors: Mirrors
  /** when each suite was last seen, by its name: ISO 8601 */
  seen: Readonly<Record<string, string>>
  now: Date
  emit: Emit
  context: SourceContext
  /** where distributions publish what they know of vulnerabilities, if not at their own places */
  securityData?: Partial<Record<'debian' | 'ubuntu', string>>
}

export interface Asked {
  image: string
  repositories: readonly Repository[]
  recorded: readonly Recorded[]
}

export interface UpdatesFound {
  /** by image */
  reasons: Map<string, StaleReason[]>
  /** dates of the suites that were read, by their names */
  suites: Record<string, string>
}

/** Suites that are read at once: each is unpacked by a process of its own. */
const AT_ONCE = 2

/** Reads each suite once, whatever number of images uses it. */
export async function findUpdates(images: readonly Asked[], question: UpdateQuestion): Promise<UpdatesFound> {
  const lists: Listed[] = []
  for (const asked of images) {
    for (const { packages, note } of asked.recorded) {
      if (packages === undefined) continue
      const isEmpty = packages.packages.length === 0
      const suites = isEmpty ? [] : await suitesOf(packages, asked.repositories, question.mirrors)
      lists.push({ image: asked.image, packages, suites, unmended: note?.unmended ?? [] })
    }
  }
  const indexes = await readAll(readingsOf(lists), question)
  const found = lists.map((one) => ({ ...one, ...updatesOf(one, indexes) }))
  const data = await readData(found, question)
  const reasons = new Map<string, StaleReason[]>()
  for (const one of found) {
    const told = [...reasonsOf(one, data.get(releaseOf(one.packages)), question), ...one.unknown]
    reasons.set(one.image, unique([...(reasons.get(one.image) ?? []), ...told]))
  }
  const read = [...indexes.values()].filter((index) => 'offers' in index)
  return { reasons, suites: datesSeen(read) }
}

interface Listed {
  image: string
  packages: PackageList
  suites: readonly UsedSuite[]
  unmended: readonly string[]
}

type Index = PackageIndex | ImagebuildError

async function readAll(
  readings: ReadonlyMap<string, Reading>,
  { seen, now, emit, context }: UpdateQuestion,
): Promise<Map<string, Index>> {
  const limit = pLimit(AT_ONCE)
  const read = async ({ suite, wanted }: Reading): Promise<Index> => {
    const name = suiteKey(suite)
    const date = seen[name]
    const lastSeen = date === undefined ? undefined : new Date(date)
    const at = { image: name, step: 'index', label: 'reading what it has' }
    try {
      return await step(emit, at, () => readIndex(suite, wanted, { now, lastSeen }, context))
    } catch (error) {
      context.signal.throwIfAborted()
      const failure = asImagebuildError(error)
      emit({ type: 'warning', message: `${failure.message}; its updates are not known` })
      return failure
    }
  }
  const all = [...readings].map(
    async ([identity, reading]) => [identity, await limit(() => read(reading))] as const,
  )
  return new Map(await Promise.all(all))
}

/** What is pending, as far as its suites can be told; and which cannot. */
function updatesOf(
  { packages, suites, unmended }: Listed,
  indexes: ReadonlyMap<string, Index>,
): { pending: PendingUpdate[]; unknown: StaleReason[] } {
  const { id, version } = packages.distribution
  const unknown = (subject: string, text: string): StaleReason => ({
    ...{ kind: 'unknown', subject, text, action: 'nothing' },
  })
  if (packages.packages.length === 0) {
    const text = 'it has no packages of dpkg: what is newer than what is in it is not known'
    return { pending: [], unknown: [unknown('packages', text)] }
  }
  if (suites.length === 0) {
    const text = `which suites ${`${id} ${version}`.trim() || 'this system'} gets updates from is not known: name them in \`updates.repositories\``
    return { pending: [], unknown: [unknown('suites', text)] }
  }
  const read = suites.map(({ suite }) => ({ suite, index: indexes.get(identityOf(suite)) as Index }))
  const known = read.flatMap(({ index }) => ('offers' in index ? [index] : []))
  return {
    pending: stillPending(pendingUpdates(packages.packages, known, packages.architecture), unmended),
    unknown: read.flatMap(({ suite, index }) =>
      'offers' in index ? [] : [unknown(suiteKey(suite), `updates of ${suite.suite}: ${index.message}`)],
    ),
  }
}

type Found = Listed & ReturnType<typeof updatesOf>

/** Names a release for which distributions publish what they know. */
function releaseOf({ distribution: { id, version, codename } }: PackageList): string {
  return `${id} ${version} ${codename}`
}

/** Of each release for which there is a security update: with none pending there is nothing to look up. */
async function readData(
  found: readonly Found[],
  { ci, now, emit, context, securityData = {} }: UpdateQuestion,
): Promise<Map<string, SecurityData | undefined>> {
  const data = new Map<string, SecurityData | undefined>()
  if (ci.security === 'off') return data
  for (const { packages, pending } of found) {
    const { id, version, codename } = packages.distribution
    const release = releaseOf(packages)
    if (id !== 'debian' && id !== 'ubuntu') continue
    if (data.has(release) || !pending.some(({ isSecurity }) => isSecurity)) continue
    const url = securityData[id]
    const question = {
      distribution: id as typeof id,
      codename,
      version,
      now,
      ...(url !== undefined && { url }),
    }
    const at = { image: `${id} ${version}`, step: 'vulnerabilities', label: 'reading what its updates mend' }
    data.set(release, await step(emit, at, () => readSecurityData(question, context)))
  }
  return data
}

function reasonsOf(
  { image, pending }: Found,
  data: SecurityData | undefined,
  { ci, now, emit }: UpdateQuestion,
): StaleReason[] {
  const { reasons, warnings } = judgeSecurity(pending, ci.security, data, now)
  for (const message of warnings) emit({ type: 'warning', image, message })
  const others = ci.updates ? pending.filter(({ isSecurity }) => !isSecurity) : []
  const told = others.map((update) => ({ update, vulnerabilities: [] }))
  return [...staleByUpdates('security', reasons), ...staleByUpdates('updates', told)]
}

/** The same on several nodes is told once. */
function unique(reasons: readonly StaleReason[]): StaleReason[] {
  return [...new Map(reasons.map((reason) => [`${reason.kind} ${reason.text}`, reason])).values()]
}
