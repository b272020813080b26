import { ImagebuildError } from '../../core/errors.ts'

/** How long a certificate is good for. */

/** Seconds from now on, or from one moment to another. Certificates count whole seconds. */
export type Validity = number | { from: Date; to: Date }

export interface Window {
  from: Date
  to: Date
}

/** A working day: whoever logs in tomorrow asks for another certificate. */
export const USER_VALIDITY = '8h'
export const HOST_VALIDITY = '52w'

/** Seconds that a certificate starts before it was signed: the clocks of others may be late. */
const CLOCK_SKEW = 5 * 60

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 }
const LONGEST = 100 * 365 * SECONDS.d

/**
 * `8h`, `+8h`, `1w2d`: numbers with s, m, h, d or w, as in sshd_config(5), TIME FORMATS.
 * @returns seconds
 * @throws ImagebuildError `usage`
 */
export function parseValidity(text: string): number {
  const parts = [...text.matchAll(/(\d+)([smhdw]?)/gi)]
  if (!/^\+?(\d+[smhdw]?)+$/i.test(text)) throw refused(text, 'it is no duration')
  const seconds = parts.reduce(
    (sum, [, count, unit = '']) =>
      sum + Number(count) * SECONDS[(unit.toLowerCase() || 's') as keyof typeof SECONDS],
    0,
  )
  if (seconds === 0) throw refused(text, 'a certificate must last for some time')
  if (seconds > LONGEST) throw refused(text, 'that is more than 100 years')
  return seconds
}

/** @throws ImagebuildError `usage` where it would end before it begins */
export function windowOf(validity: Validity, now = new Date()): Window {
  const seconds = (date: Date) => new Date(Math.floor(date.getTime() / 1000) * 1000)
  const window =
    typeof validity === 'number'
      ? {
          from: seconds(new Date(now.getTime() - CLOCK_SKEW * 1000)),
          to: seconds(new Date(now.getTime() + validity * 1000)),
        }
      : { from: seconds(validity.from), to: seconds(validity.to) }
  if (!(window.to > window.from)) {
    throw refused(JSON.stringify(validity), 'it would end before it begins')
  }
  return window
}

/** As `ssh-keygen -V` reads it where the time zone is UTC: `20260101000000:20270101000000`. */
export function keygenWindow({ from, to }: Window): string {
  const digits = (date: Date) => date.toISOString().slice(0, 19).replace(/\D/g, '')
  return `${digits(from)}:${digits(to)}`
}

function refused(text: string, why: string): ImagebuildError {
  return new ImagebuildError({
    code: 'usage',
    what: `a certificate cannot be valid for ${text}`,
    why,
    next: 'give a duration such as 30m, 8h, 7d or 52w',
  })
}
