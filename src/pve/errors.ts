import type { ErrorCode } from '../core/errors.ts'
import { ImagebuildError } from '../core/errors.ts'
import { restrictedTag } from './restricted-tags.ts'

/**
 * What is known about a request that failed.
 * `unsent`: no byte of it left this machine; `unknown`: it may have been carried out; `answered`: Proxmox refused it.
 */
export type Delivery = 'unsent' | 'unknown' | 'answered'

export interface PveErrorFacts {
  method: string
  /** below /api2/json, without parameters: those may be secret */
  path: string
  delivery: Delivery
  /** HTTP status, where there was an answer */
  status?: number
  reason?: string
  /** Proxmox's own words */
  message?: string
  /** parameter → what is wrong with it */
  fields?: Readonly<Record<string, string>>
  /** true where the same request may work a moment later */
  passing?: boolean
  code?: ErrorCode
  what?: string
  next?: string
  cause?: unknown
}

/** A request to Proxmox that did not do what it should. */
export class PveError extends ImagebuildError {
  readonly method: string
  readonly path: string
  readonly delivery: Delivery
  readonly status: number | undefined
  readonly reason: string | undefined
  /** Proxmox's own words, or those of the network */
  readonly pveMessage: string
  readonly fields: Readonly<Record<string, string>>
  readonly passing: boolean

  constructor(facts: PveErrorFacts) {
    const text = (facts.message || facts.reason || '').trim()
    const fields = facts.fields ?? {}
    const code = facts.code ?? codeOf(facts.status, text)
    const next = facts.next ?? nextStep(code, facts.status, text)
    super({
      code,
      what: facts.what ?? `Proxmox answered ${facts.status} to ${facts.method} ${facts.path}`,
      why: [text, ...Object.entries(fields).map(([name, wrong]) => `${name}: ${wrong.trim()}`)].join('\n'),
      ...(next !== undefined && { next }),
      cause: facts.cause,
      ...restrictedTag(text),
    })
    this.method = facts.method
    this.path = facts.path
    this.delivery = facts.delivery
    this.status = facts.status
    this.reason = facts.reason
    this.pveMessage = text
    this.fields = fields
    this.passing =
      facts.passing ?? (isPassingStatus(facts.status) || isPassingRefusal(facts.method, facts.path, text))
  }

  /** True where Proxmox says that the guest, volume, node … does not exist: it says so with a 500, rarely a 404. */
  get isMissing(): boolean {
    return this.status === 404 || /does not exist|no such |not found/i.test(this.pveMessage)
  }
}

/** Gateway statuses; 595 (no connection), 596 (broken) and 599 (too slow) are how one node speaks of another. */
const PASSING_STATUS = new Set([502, 503, 504, 595, 596, 599])

function isPassingStatus(status: number | undefined): boolean {
  return status !== undefined && PASSING_STATUS.has(status)
}

/**
 * Reads that real Proxmox VE 8.4 and 9.2 refuse for a moment, with a 500: a node's list while any guest of it comes or goes, and
 * the status of a container that goes down. Of one guest's configuration the first text means that the guest is gone.
 */
const PASSING_REFUSALS = [
  { path: /^\/nodes\/[^/]+\/(qemu|lxc)$/, text: /^configuration file '.*' does not exist/i },
  { path: /^\/nodes\/[^/]+\/lxc\/\d+\/status\/current$/, text: /failed to read from command socket/i },
]

function isPassingRefusal(method: string, path: string, text: string): boolean {
  return method === 'GET' && PASSING_REFUSALS.some((one) => one.path.test(path) && one.text.test(text))
}

/** Proxmox's words for "somebody else is at it" and "no room": both can pass. */
const BUSY =
  /can't lock file|\bis locked\b|got lock (request )?timeout|file change by other user|detected modified configuration|no quorum|unable to (acquire|obtain) .*lock|trying to acquire .*lock/i
const FULL =
  /no space left|not enough (free )?(disk )?space|out of space|insufficient free space|quota exceeded/i

/** The error code for Proxmox's words, as they stand in an answer or at the end of a task. */
export function codeOf(status: number | undefined, text: string): ErrorCode {
  if (status === 401 || status === 403) return 'permission_denied'
  if (isPassingStatus(status)) return 'unreachable'
  if (BUSY.test(text) || FULL.test(text)) return 'busy'
  if (/permission check failed|permission denied/i.test(text)) return 'permission_denied'
  return 'build_failed'
}

/** What a person can do about Proxmox's words, where they say it. */
export function nextStep(code: ErrorCode, status: number | undefined, text: string): string | undefined {
  if (status === 401) return LOGIN_HINT
  const refused = /Permission check failed \((\/[^,\s]*), ([\w.|, ]+)\)/.exec(text)
  if (refused) {
    return `grant ${refused[2]} on ${refused[1]}: pveum acl modify ${refused[1]} --roles <a role with it> --users <user@realm> (and --tokens for a token with privilege separation)`
  }
  if (FULL.test(text)) return 'make room on that storage, or name another one'
  if (code === 'busy') return 'somebody else is working on it: try again in a moment'
  if (code === 'unreachable') return 'is the node up, and pveproxy and pvedaemon on it? try again in a moment'
  if (status !== undefined && status >= 500)
    return 'the node’s journal may say more (journalctl -u pvedaemon -u pveproxy); try again in a moment'
  return undefined
}

const LOGIN_HINT =
  'check the credentials: a token reads user@realm!tokenid=secret (pveum user token list user@realm), a user name ends in @pam, @pve or another realm; neither may have expired'

/** A task that Proxmox accepted and that failed later. */
export class PveTaskError extends ImagebuildError {
  readonly upid: string
  readonly exitstatus: string

  constructor(facts: {
    upid: string
    type: string
    id: string
    exitstatus: string
    output: readonly string[]
  }) {
    const code = codeOf(undefined, facts.exitstatus)
    const next =
      nextStep(code, undefined, facts.exitstatus) ?? `look at it on the node: pvenode task log ${facts.upid}`
    super({
      code,
      what: `the Proxmox task ${facts.type}${facts.id && ` of ${facts.id}`} failed`,
      why: facts.exitstatus,
      output: facts.output,
      next,
      ...restrictedTag(facts.exitstatus),
    })
    this.upid = facts.upid
    this.exitstatus = facts.exitstatus
  }
}
