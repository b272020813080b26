import { ImagebuildError } from '../core/errors.ts'

/** What an archive's Release file says of a suite. */
export interface Release {
  suite: string
  codename: string
  date: Date
  validUntil: Date | undefined
  architectures: readonly string[]
  /** the packages for all architectures stand in each architecture's index, although `all` is one of them */
  hasAllInEach: boolean
  byHash: boolean
  /** nothing of it is installed unless a person asks for it: backports, experimental */
  isManual: boolean
  /** by path below the suite's folder */
  files: ReadonlyMap<string, { sha256: string; size: number }>
}

/** Milliseconds that a Release may be ahead of this machine's clock. */
const FUTURE = 24 * 3600 * 1000

/**
 * @param text what was signed, and nothing else
 * @throws ImagebuildError `build_failed` for one without a date or SHA-256 digests
 */
export function parseRelease(text: string, name: string): Release {
  const fields = new Map<string, string>()
  let last = ''
  for (const line of text.split('\n')) {
    const [, key, value = ''] = /^([^\s:]+):[ \t]*(.*?)\s*$/.exec(line) ?? []
    if (key !== undefined) {
      last = key.toLowerCase()
      fields.set(last, value)
    } else if (/^[ \t]/.test(line)) fields.set(last, `${fields.get(last) ?? ''}\n${line.trim()}`)
  }
  const field = (key: string) => fields.get(key) ?? ''
  const words = (key: string) => field(key).split(/\s+/).filter(Boolean)
  const files = new Map<string, { sha256: string; size: number }>()
  for (const line of field('sha256').split('\n')) {
    const [, sha256, size, path] = /^([0-9a-f]{64})\s+(\d+)\s+(\S+)$/.exec(line) ?? []
    if (sha256 !== undefined && path !== undefined) files.set(path, { sha256, size: Number(size) })
  }
  const date = dateOf(field('date'))
  if (date === undefined || files.size === 0) {
    throw new ImagebuildError({
      code: 'build_failed',
      what: `${name} is no index of packages`,
      why: date === undefined ? 'it has no date' : 'it has no SHA-256 digests',
      next: 'check the address of the archive and the name of the suite',
    })
  }
  return {
    suite: field('suite'),
    codename: field('codename'),
    date,
    validUntil: dateOf(field('valid-until')),
    architectures: words('architectures'),
    hasAllInEach: words('no-support-for-architecture-all').includes('Packages'),
    byHash: field('acquire-by-hash') === 'yes',
    isManual: field('notautomatic') === 'yes',
    files,
  }
}

/** `Mon, 30 Nov 2026  0:13:16 UTC` */
function dateOf(text: string): Date | undefined {
  const date = new Date(text)
  return text === '' || Number.isNaN(date.getTime()) ? undefined : date
}

/**
 * Whether this Release is of the suite, of now, and no older one that somebody plays again to hide an update.
 * @param lastSeen the newest date that was ever seen of this suite
 * @throws ImagebuildError `build_failed`
 */
export function judgeRelease(
  release: Release,
  { suite, now, lastSeen }: { suite: string; now: Date; lastSeen: Date | undefined },
  name: string,
): void {
  const { date, validUntil } = release
  const refuse = (what: string, why: string, next: string) =>
    new ImagebuildError({ code: 'build_failed', what: `${name} ${what}`, why, next })
  const mirror = 'use another mirror, or the distribution’s own archive'
  // Ubuntu's pockets all have the release's codename; only `Suite` tells noble-security from noble.
  const isPocket = release.suite.startsWith(`${suite}-`)
  if (isPocket || ![release.suite, release.codename].includes(suite)) {
    const own = [...new Set([release.suite, release.codename])].filter(Boolean).join(', ')
    throw refuse('is of another suite', `it is signed as ${own || 'none'}`, mirror)
  }
  if (lastSeen !== undefined && date < lastSeen) {
    const why = `it is of ${date.toISOString()}, and one of ${lastSeen.toISOString()} has been seen: a replay hides updates`
    throw refuse(
      'is older than the last one seen',
      why,
      `${mirror}: this one may be behind, or somebody in between`,
    )
  }
  if (validUntil !== undefined && validUntil <= now) {
    const why = `it was valid until ${validUntil.toISOString()}, and it is ${now.toISOString()}`
    throw refuse('has expired', why, `check this machine's clock; if it is right, ${mirror}`)
  }
  if (date.getTime() > now.getTime() + FUTURE) {
    const why = `it is of ${date.toISOString()}, and it is ${now.toISOString()}`
    throw refuse('is of the future', why, "check this machine's clock")
  }
}
