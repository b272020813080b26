/**
 * An answer other than 200, in Proxmox's words: what a handler throws and the server writes. It is part of the
 * wire format (its message must match Proxmox's), so it is not an ImagebuildError.
 */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly status: number
  readonly errors: Record<string, string> | undefined
  /** ends with a newline, as Perl's `die` wants it, and as clients see it in `message` */
  readonly body: string

  constructor(status: number, message: string, errors?: Record<string, string>) {
    super(message.replace(/\n$/, ''))
    this.status = status
    this.errors = errors
    this.body = status === 501 ? message : message.replace(/\n?$/, '\n')
  }

  /** The reason phrase: the first line of the message. */
  get reason(): string {
    return this.body.split('\n', 1)[0] as string
  }
}

/** of a 501 */
export const NO_HA = 'the lab has no high availability'

/** What Perl's `die "…\n"` in a handler becomes: a 500 whose reason phrase is the message. */
export function failure(message: string): ApiError {
  return new ApiError(500, message)
}

/** 400 with one text per parameter. */
export function parameterError(errors: Record<string, string>): ApiError {
  return new ApiError(400, 'Parameter verification failed.', errors)
}

/** 403: `what` is the path and the privileges, where Proxmox names them. */
export function permissionError(what?: string): ApiError {
  return new ApiError(
    403,
    what === undefined ? 'Permission check failed' : `Permission check failed (${what})`,
  )
}

/** 401: the text goes into the reason phrase only, the body stays empty. */
export function unauthorized(message: string): ApiError {
  return new ApiError(401, message)
}

/** Why a copy has failed: Proxmox's clones and moves of disks have words of their own for being stopped. */
export function copyMessageOf(thrown: unknown): string {
  return messageOf(thrown).replace('received interrupt', 'interrupted by signal')
}

/** What a task says of whatever was thrown: of a refusal that is no plain failure, its status too. */
export function taskMessageOf(thrown: unknown): string {
  const refused = thrown instanceof ApiError && thrown.status !== 500
  return refused ? `${thrown.status} ${thrown.message}` : messageOf(thrown)
}

/** The message of whatever was thrown, without trailing newline. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
