/**
 * The one error class. Whatever fails, a person must learn what failed, whose fault it is, where in
 * their files, why, and what to do next. The exit code is a property of the error's code.
 */

/** Error code → process exit code. The numbers are sysexits(3) where it has one. */
export const EXIT_CODES = {
  /** a layer, a boot, a check or a Proxmox task failed: the build is lost, the target is fine */
  build_failed: 1,
  /** `resolve` and friends found no such template */
  not_found: 1,
  /** a defect of imagebuild itself */
  internal: 1,
  /** the command line is wrong */
  usage: 64,
  /** imagebuild.yaml, an image.yaml or a file they name is wrong */
  definition_invalid: 65,
  /** something this machine must have is missing (a Debian package, root) */
  prerequisite_missing: 69,
  /** endpoint, source or mirror cannot be reached, or is not who it must be */
  unreachable: 69,
  /** someone else holds the image or the target has no room: try again */
  busy: 75,
  /** Proxmox, or a forge such as GitHub, refuses: credentials or privileges */
  permission_denied: 77,
  interrupted: 130,
  terminated: 143,
} as const

export type ErrorCode = keyof typeof EXIT_CODES

/** A place in one of the user's files. Lines and columns count from 1. */
export interface SourceLocation {
  file: string
  line: number
  column: number
}

export interface ErrorFacts {
  code: ErrorCode
  /** what failed, one sentence without a full stop */
  what: string
  /** where in the user's files */
  where?: SourceLocation
  /** why, as far as it is known; several lines are fine */
  why?: string
  /** the last lines that the failing thing printed, oldest first */
  output?: readonly string[]
  /** the next step: a command to type or a thing to change */
  next?: string
  cause?: unknown
}

export class ImagebuildError extends Error {
  override readonly name = 'ImagebuildError'
  readonly code: ErrorCode
  readonly what: string
  readonly where: SourceLocation | undefined
  readonly why: string | undefined
  readonly output: readonly string[]
  readonly next: string | undefined

  constructor(facts: ErrorFacts) {
    const message = facts.why === undefined ? facts.what : `${facts.what}: ${facts.why}`
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause })
    this.code = facts.code
    this.what = facts.what
    this.where = facts.where
    this.why = facts.why
    this.output = facts.output ?? []
    this.next = facts.next
  }

  /** The same failure, told with other facts; it is the cause of the new one. */
  with(change: Partial<ErrorFacts>): ImagebuildError {
    const { code, what, where, why, output, next } = this
    return new ImagebuildError({
      code,
      what,
      output,
      ...(where && { where }),
      ...(why !== undefined && { why }),
      ...(next !== undefined && { next }),
      cause: this,
      ...change,
    })
  }

  get exitCode(): number {
    return EXIT_CODES[this.code]
  }

  /** The form that `run --json` prints. */
  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      exitCode: this.exitCode,
      what: this.what,
      ...(this.where && { where: this.where }),
      ...(this.why !== undefined && { why: this.why }),
      ...(this.output.length > 0 && { output: this.output }),
      ...(this.next !== undefined && { next: this.next }),
    }
  }
}

/** What only a person can mend: running again changes nothing, and its `next` says what does. */
export class ByHandError extends ImagebuildError {}

/** Whatever was thrown, as an ImagebuildError; what we did not foresee becomes `internal`, cause kept. */
export function asImagebuildError(thrown: unknown): ImagebuildError {
  if (thrown instanceof ImagebuildError) return thrown
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  return new ImagebuildError({
    code: 'internal',
    what: 'something unforeseen went wrong in imagebuild',
    why: error.message,
    next: 'run again with --debug for the stack, and please report it',
    cause: error,
  })
}
