import { ImagebuildError } from '../core/errors.ts'
import type { SecretRegistry } from '../core/secrets.ts'

export type Credentials =
  /** `user@realm!tokenid=secret` */
  | { kind: 'token'; token: string }
  /** `username` with its realm; `otp` is a TOTP code, good for one login only */
  | { kind: 'ticket'; username: string; password: string; otp?: string }

/** What proves to Proxmox who we are. */
export interface Session {
  readonly kind: 'token' | 'ticket'
  /** `user@realm` or `user@realm!tokenid` */
  readonly user: string
  /** Headers of one request; logs in, or renews the ticket, where that is due. */
  headers(write: boolean, signal: AbortSignal): Promise<Record<string, string>>
  /** After a 401: forgets the ticket that these headers carried. False where a new one cannot be had. */
  expire(headers: Record<string, string>): boolean
}

/** Sends one login; gives what Proxmox says under `data`. */
export type Login = (form: Record<string, string>, signal: AbortSignal) => Promise<TicketAnswer>

export interface TicketAnswer {
  ticket: string
  CSRFPreventionToken?: string
  username: string
  /** 1 where `ticket` is only the challenge for a second factor */
  NeedTFA?: number
}

export function createSession(credentials: Credentials, login: Login, secrets: SecretRegistry): Session {
  return credentials.kind === 'token'
    ? tokenSession(credentials.token, secrets)
    : new TicketSession(credentials, login, secrets)
}

const TOKEN = /^([^\s:/!]+@[A-Za-z][\w.-]*![A-Za-z][\w.-]*)=(\S+)$/

function tokenSession(text: string, secrets: SecretRegistry): Session {
  const parts = TOKEN.exec(text.trim().replace(/^PVEAPIToken=/, ''))
  if (!parts) {
    // Not a word of the text itself: most of it may be the secret.
    throw new ImagebuildError({
      code: 'permission_denied',
      what: 'the API token is not one that Proxmox could know',
      why: 'it must read user@realm!tokenid=secret',
      next: 'make one with: pveum user token add user@realm imagebuild (its secret is shown once)',
    })
  }
  const [, user, secret] = parts as unknown as [string, string, string]
  secrets.add(secret)
  return {
    kind: 'token',
    user,
    headers: async () => ({ authorization: `PVEAPIToken=${user}=${secret}` }),
    expire: () => false,
  }
}

/** A ticket is good for two hours; half of that leaves room for a long upload that starts late. */
export const RENEW_AFTER_SECONDS = 3600

interface Ticket {
  text: string
  csrf: string
  /** performance.now() of its birth */
  since: number
}

class TicketSession implements Session {
  readonly kind = 'ticket'
  readonly user: string
  readonly #credentials: Extract<Credentials, { kind: 'ticket' }>
  readonly #login: Login
  readonly #secrets: SecretRegistry
  #ticket: Ticket | undefined
  #pending: Promise<void> | undefined
  #otpUsed = false

  constructor(credentials: Extract<Credentials, { kind: 'ticket' }>, login: Login, secrets: SecretRegistry) {
    this.user = credentials.username
    this.#credentials = credentials
    this.#login = login
    this.#secrets = secrets
    secrets.add(credentials.password)
  }

  async headers(write: boolean, signal: AbortSignal): Promise<Record<string, string>> {
    // performance.now() does not jump with the wall clock; it stands still in suspend, which the 401 covers.
    const due = !this.#ticket || performance.now() - this.#ticket.since > RENEW_AFTER_SECONDS * 1000
    if (due) {
      // One login for all who wait. Whoever did not start it must not fail by the starter's signal.
      const joined = this.#pending
      this.#pending ??= this.#renew(signal).finally(() => {
        this.#pending = undefined
      })
      try {
        await this.#pending
      } catch (error) {
        signal.throwIfAborted()
        if (!joined || error instanceof ImagebuildError) throw error
        return this.headers(write, signal)
      }
    }
    const { text, csrf } = this.#ticket as Ticket
    return {
      cookie: `PVEAuthCookie=${encodeURIComponent(text)}`,
      ...(write && { csrfpreventiontoken: csrf }),
    }
  }

  expire(headers: Record<string, string>): boolean {
    const current = this.#ticket && `PVEAuthCookie=${encodeURIComponent(this.#ticket.text)}`
    if (headers.cookie === current) this.#ticket = undefined
    return true
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const { username, password, otp } = this.#credentials
    let answer: TicketAnswer | undefined
    if (this.#ticket) {
      // A valid ticket serves as password, and needs no second factor; if it has just expired, the password does.
      answer = await this.#login({ username, password: this.#ticket.text }, signal).catch(() => undefined)
      signal.throwIfAborted()
    }
    answer ??= await this.#login({ username, password }, signal)
    if (answer.NeedTFA) {
      if (otp === undefined || this.#otpUsed) throw secondFactor(username)
      this.#otpUsed = true
      const form = { username, 'tfa-challenge': answer.ticket, password: `totp:${otp}` }
      answer = await this.#login(form, signal)
    }
    this.#secrets.add(answer.ticket)
    if (answer.CSRFPreventionToken) this.#secrets.add(answer.CSRFPreventionToken)
    this.#ticket = {
      text: answer.ticket,
      csrf: answer.CSRFPreventionToken ?? '',
      since: performance.now(),
    }
  }
}

function secondFactor(username: string): ImagebuildError {
  return new ImagebuildError({
    code: 'permission_denied',
    what: `${username} needs a second factor to log in`,
    why: 'Proxmox asks for a one-time code, and a fresh one is not at hand',
    next: 'give a TOTP code, or better, use an API token: those need none',
  })
}
