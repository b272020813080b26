import { sleep } from '../../core/scope.ts'
import { type CertificateRequest, result } from './certificates.ts'
import type { Attempt, Credentials, OpenSshClient } from './openssh-client.ts'
import type { Result } from './report.ts'

/** Logins that must be refused, between two of one that must not. */

/** Tries of a login that came to no answer, and milliseconds between them: sshd may just be reading its configuration. */
const TRIES = 4
const BETWEEN_TRIES = 1500

export const TITLES = {
  'configured-ca': 'a certificate of the configured CA lets in',
  right: 'a certificate with the right principal lets in',
  'wrong-principal': 'a certificate with another principal is refused',
  expired: 'an expired certificate is refused',
  revoked: 'a revoked certificate is refused',
  'plain-key': 'a key that nobody has certified is refused',
  password: 'the user’s password is refused',
  control: 'after all refusals the right login still lets in',
}
export type Case = keyof typeof TITLES

/** @param first the name of the right login before all that must be refused; `control`: it has none of its own */
export async function tryCases(
  {
    client,
    user,
    checks,
    signal,
  }: Pick<CertificateRequest, 'checks' | 'signal'> & { client: OpenSshClient; user: string },
  first: 'right' | 'control',
  right: Credentials,
  refusals: readonly [Case, Credentials][],
): Promise<Result[]> {
  const about = (id: Case) => result(id, TITLES[id])
  const control = await attempt(client, user, right, signal)
  if (control.outcome !== 'accepted') {
    const found = 'the right login does not let in either, so that a refusal proves nothing'
    return [
      judge(about(first), control, 'accepted'),
      ...refusals.map(([id]): Result => ({ ...about(id), outcome: 'skipped', found })),
    ]
  }
  const results = first === 'control' ? [] : [judge(about(first), control, 'accepted')]
  for (const [id, by] of refusals) {
    const judged = judge(about(id), await attempt(client, user, by, signal), 'refused')
    const promised = id !== 'password' || forbidsPasswords(checks)
    results.push(
      promised || judged.outcome !== 'failed'
        ? judged
        : {
            ...judged,
            outcome: 'skipped',
            found: 'passwords let in, and nothing in the definition says otherwise',
          },
    )
  }
  results.push(judge(about('control'), await attempt(client, user, right, signal), 'accepted'))
  return results
}

/** Whether the image promises it: hardening items have a check of it. */
function forbidsPasswords(checks: CertificateRequest['checks']): boolean {
  return checks.some(
    (check) => check.kind === 'sshd' && check.keyword.toLowerCase() === 'passwordauthentication',
  )
}

/** A server's answer; several tries where there is none. */
export async function attempt(
  client: OpenSshClient,
  user: string,
  by: Credentials,
  signal: AbortSignal,
  most = TRIES,
): Promise<Attempt> {
  for (let tries = 1; ; tries += 1) {
    const made = await client.attempt(user, by, signal)
    if (made.outcome !== 'unreachable' || tries === most) return made
    await sleep(BETWEEN_TRIES, signal)
  }
}

export function judge(
  about: ReturnType<typeof result>,
  { outcome, why }: Attempt,
  wanted: 'accepted' | 'refused',
): Result {
  if (outcome === wanted) return { ...about, outcome: 'passed' }
  if (outcome === 'unreachable')
    return { ...about, outcome: 'failed', found: `no answer, which proves nothing: ${why}` }
  return { ...about, outcome: 'failed', found: outcome === 'accepted' ? 'it was let in' : why }
}
