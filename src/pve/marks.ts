import { ImagebuildError } from '../core/errors.ts'

/**
 * How our guests are known among all others: tags for what must be found by one request, a note for the
 * rest. A clone inherits both from its template, so neither means anything unless it names the guest's own
 * VMID: everything here checks that first.
 */

/**
 * claim      diskless: whoever created it is the one builder of an image; it stays one whatever other tags it is given
 * building   a temporary guest; removed when its claim or its expiry is gone
 * kept       a failed build that somebody wants to look into; removed when its expiry is over
 * candidate  a finished template that nobody has promoted yet
 * current    what `resolve` gives
 * previous   what was current before
 * retired    older than that
 */
export const STATES = ['claim', 'building', 'kept', 'candidate', 'current', 'previous', 'retired'] as const
export type State = (typeof STATES)[number]

export interface Marks {
  vmid: number
  namespace: string
  image: string
  state: State
  version?: string
  /** the first 16 hex digits of the definition digest */
  digest?: string
  /**
   * Unix seconds after which a temporary guest may be removed by anyone; on a candidate that failed, how long it is kept.
   * On a template that was once current: somebody is removing it.
   */
  expires?: number
  /** a static address that the guest occupies */
  address?: string
  /** rolled back on purpose: not to be replaced by an unchanged build */
  held?: boolean
  /** clones of it were examined and all was well: from within, or only as far as it can be seen from outside */
  verified?: 'inside' | 'outside'
  /** its disks lie on a storage that all nodes of its target see: it serves them all */
  shared?: boolean
  /** counts the times that a template of this image became current: among those marked so, the highest counts */
  turn?: number
  /** a copy of the template at a fixed VMID, while that one is replaced */
  standin?: boolean
  /** the fixed VMID that a copy of it is about to take over; on stand-ins and unfinished copies: that they are made for */
  swap?: number
}

const DIGEST_DIGITS = 16
const VERIFIED = { inside: 'ib-verified', outside: 'ib-verified-outside' } as const

/** All tags of a guest that say the same of every image. */
export const FIXED_TAGS: readonly string[] = [
  ...STATES.map((state) => `ib-${state}`),
  ...Object.values(VERIFIED),
  ...['ib-held', 'ib-shared', 'ib-standin'],
]

export function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, '').slice(0, DIGEST_DIGITS)
}

/** As Proxmox stores tags: lower case, sorted, with semicolons. */
export function toTags(marks: Marks, extra: readonly string[] = []): string {
  const tags = [
    `ib-id-${marks.vmid}`,
    `ib-ns-${marks.namespace}`,
    `ib-image-${marks.image}`,
    `ib-${marks.state}`,
    ...(marks.version === undefined ? [] : [`ib-version-${marks.version}`]),
    ...(marks.digest === undefined ? [] : [`ib-digest-${shortDigest(marks.digest)}`]),
    ...(marks.expires === undefined ? [] : [`ib-expires-${Math.ceil(marks.expires)}`]),
    ...(marks.address === undefined ? [] : [`ib-address-${marks.address}`]),
    ...(marks.held ? ['ib-held'] : []),
    ...(marks.verified === undefined ? [] : [VERIFIED[marks.verified]]),
    ...(marks.shared ? ['ib-shared'] : []),
    ...(marks.turn === undefined ? [] : [`ib-turn-${marks.turn}`]),
    ...(marks.standin ? ['ib-standin'] : []),
    ...(marks.swap === undefined ? [] : [`ib-swap-${marks.swap}`]),
  ]
  return [...new Set([...tags, ...extra])].sort().join(';')
}

/** The marks in a guest's tags; undefined where they are not ours, or were inherited from another guest. */
export function fromTags(vmid: number, tags: string | undefined): Marks | undefined {
  const list = (tags ?? '').split(/[;, ]/)
  if (!list.includes(`ib-id-${vmid}`)) return undefined
  const value = (prefix: string) => list.find((tag) => tag.startsWith(prefix))?.slice(prefix.length)
  const namespace = value('ib-ns-')
  const image = value('ib-image-')
  const state = STATES.find((name) => list.includes(`ib-${name}`))
  if (namespace === undefined || image === undefined || state === undefined) return undefined
  const version = value('ib-version-')
  const digest = value('ib-digest-')
  const expires = value('ib-expires-')
  const address = value('ib-address-')
  const turn = wholeNumber(value('ib-turn-'))
  const swap = wholeNumber(value('ib-swap-'))
  const verified = (['inside', 'outside'] as const).find((how) => list.includes(VERIFIED[how]))
  return {
    vmid,
    namespace,
    image,
    state,
    ...(version !== undefined && { version }),
    ...(digest !== undefined && { digest }),
    ...(expires !== undefined && { expires: Number(expires) }),
    ...(address !== undefined && { address }),
    ...(list.includes('ib-held') && { held: true }),
    ...(verified !== undefined && { verified }),
    ...(list.includes('ib-shared') && { shared: true }),
    ...(turn !== undefined && { turn }),
    ...(list.includes('ib-standin') && { standin: true }),
    ...(swap !== undefined && { swap }),
  }
}

/** A number that somebody has mistyped in Proxmox's interface must not sort before or after everything. */
function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^[1-9]\d{0,8}$/.test(text) ? Number(text) : undefined
}

/** Versions are `<date>.<serial>`: by date, then by serial as a number. */
export function compareVersions(a = '', b = ''): number {
  const [dateA = '', serialA = '0'] = a.split('.')
  const [dateB = '', serialB = '0'] = b.split('.')
  return dateA < dateB ? -1 : dateA > dateB ? 1 : Number(serialA) - Number(serialB)
}

/** The tags of a guest that are not imagebuild's. */
export function foreignTags(tags: string | undefined): string[] {
  return (tags ?? '').split(/[;, ]/).filter((tag) => tag !== '' && !tag.startsWith('ib-'))
}

/** Who works on a temporary guest: enough to see, on the same machine, whether that process still lives. */
export interface Owner {
  host: string
  /** hash of the installation's machine-id; missing or empty where it has none */
  machine?: string
  /** of the machine's boot: process ids begin anew with each */
  boot: string
  /** PID namespace in which `pid` counts: `pid:[4026531836]` */
  pids?: string
  pid: number
  /** start time of the process in clock ticks since boot, field 22 of /proc/<pid>/stat */
  started: string
}

/** What is left of a verify report in a template's note. */
export interface VerifySummary {
  /** ISO 8601, UTC */
  at: string
  passed: number
  failed: number
  /** not asked */
  skipped: number
  /** not applicable, or switched off by the definition with a reason */
  left: number
  /** whether certificates of the configured CA log in; `not configured` is no success */
  certificates: string
  /** whether the clone was examined from within */
  inside: string
  /** digest of the checks that were asked: others are asked again */
  checks: string
  /** digest of the ways by which containers were to be entered, beyond none at all */
  tried?: string
}

/** Schema 1 of the machine-readable part of a guest's notes. */
export interface Note {
  schema: 1
  /** the guest this note was written for: a clone carries its template's note */
  vmid: number
  namespace: string
  image: string
  kind: 'vm' | 'lxc'
  /** version of imagebuild */
  tool: string
  /** one run of imagebuild */
  run: string
  /** tells this guest from all others that had, or have, its VMID, also those of the same run */
  guest?: string
  owner?: Owner
  /** Unix seconds */
  expires?: number
  version?: string
  /** of the definition, complete */
  digest?: string
  source?: {
    /** what the definition asks for */
    request: string
    /** what it got: goes into the digest */
    identity: string
    /** dated release, or suite of a bootstrap */
    version: string
    /** the cloud image could not be reached and was built from packages instead */
    fallback: boolean
  }
  /** ISO 8601, UTC */
  built?: string
  /** VMID of the template that was current before this one */
  previous?: number
  verify?: VerifySummary | 'off'
  /** the result as a file on the storage for archives; of a guest that is being built, how it will be called */
  archive?: { file: string; volid?: string; sha256?: string }
  /** what it was made of, in short digests: parts by their names, layers in their order */
  made?: { parts: Record<string, string>; layers: string[] }
  /** of an unfinished copy: the fixed VMID that it is made for */
  swap?: number
  /** ISO 8601, UTC; of a claim: since when it is held */
  since?: string
  /** of a claim: times that it was renewed */
  renewals?: number
  /** SHA-256 of what lies in the build folder */
  artifacts?: Record<string, string>
  /** all packages were upgraded before its layers were applied */
  refreshed?: boolean
  /** updates that it was built anew for, and that it lacks all the same: each named by 8 hex digits, 64 of them at most */
  unmended?: string[]
  /** scheduled rebuilds that failed one after another, for the same reasons: a digest of what those are about */
  failures?: { count: number; reasons: string /** ISO 8601, UTC */; at: string }
}

/** Bytes. Proxmox allows 8192 characters; the rest is for the user's own description. */
const NOTE_BYTES = 6 * 1024

const FENCE = '```imagebuild'

export function renderNote(note: Note, description?: string): string {
  const json = JSON.stringify(note)
  if (Buffer.byteLength(json) > NOTE_BYTES) {
    throw new ImagebuildError({
      code: 'internal',
      what: `the note for ${note.image} is larger than ${NOTE_BYTES} bytes`,
      next: 'please report it',
    })
  }
  return `${description === undefined ? '' : `${description}\n\n`}${FENCE}\n${json}\n\`\`\`\n`
}

/** The note in a description; undefined where there is none or it was written for another guest. */
export function parseNote(vmid: number, description: string | undefined): Note | undefined {
  const start = description?.indexOf(`${FENCE}\n`) ?? -1
  if (description === undefined || start < 0) return undefined
  const line = description.slice(start + FENCE.length + 1).split('\n', 1)[0] ?? ''
  try {
    const note = JSON.parse(line) as Note
    return note.schema === 1 && note.vmid === vmid ? note : undefined
  } catch {
    return undefined
  }
}
