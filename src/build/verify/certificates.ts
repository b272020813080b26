import { createHash } from 'node:crypto'
import type { Check } from '../../definition/check.ts'
import type { Entered } from './enter.ts'
import { all, one, readFacts } from './facts.ts'
import { tryLogins } from './logins.ts'
import type { Result, Summary } from './report.ts'
import type { Signer } from './signer.ts'

/** Whether a clone lets in by certificate whom it should, and nobody else. */

export interface CertificateRequest {
  /** public key lines of the configured user CAs */
  ca: readonly string[]
  principals: Readonly<Record<string, readonly string[]>>
  signer?: Signer
  checks: readonly Check[]
  signal: AbortSignal
}

/** @returns nothing where no CA is configured: that is not passed, and `certificateSummary` says so */
export async function judgeCertificates(
  { client, inside, clone }: Entered,
  request: CertificateRequest,
): Promise<Result[]> {
  if (request.ca.length === 0 || inside === undefined) return []
  const { ca, principals, signal } = request
  const facts = await readFacts(inside.examiner, 'sshd-trust.sh', {
    env: {
      LOGIN_USER: inside.user,
      USERS: [...new Set([...Object.keys(principals), inside.user])].join('\n'),
    },
    signal,
  })
  const judged = (id: string, title: string, found: string | undefined): Result => ({
    ...result(id, title),
    ...(found === undefined ? { outcome: 'passed' } : { outcome: 'failed', found }),
  })
  const files = all(facts, 'principals')
  const ofLogin = files.find((text) => text.split('\n', 1)[0] === inside.user)
  const revoked = one(facts, 'revoked-keys')
  return [
    judged(
      'authorities',
      'sshd trusts the configured CAs and no other',
      judgeAuthorities(one(facts, 'ca-file'), one(facts, 'ca-keys'), ca),
    ),
    judged(
      'principals',
      'each user’s file of principals says what the definition says',
      judgePrincipals(files, principals),
    ),
    ...(revoked === ''
      ? []
      : [
          judged(
            'revoked-keys',
            'the list of revoked keys is there',
            revoked.includes(',') ? revoked : undefined,
          ),
        ]),
    ...(await tryLogins({ client, inside, name: clone.name }, request, ofLogin?.includes('\n') ?? false)),
  ]
}

export function certificateSummary(
  ca: readonly string[],
  results: readonly Result[],
  { inside, refused }: Pick<Entered, 'inside' | 'refused'>,
): Summary['certificates'] {
  if (ca.length === 0) return 'not configured'
  if (refused || results.some(({ group, outcome }) => group === 'certificates' && outcome === 'failed'))
    return 'failed'
  return inside === undefined ? 'not verified' : 'passed'
}

export function result(id: string, title: string): Pick<Result, 'group' | 'id' | 'title' | 'sources'> {
  return { group: 'certificates', id, title, sources: [] }
}

/** `ssh-ed25519 AAAA…` without its comment. */
function keyOf(line: string): string {
  return line.trim().split(/\s+/).slice(0, 2).join(' ')
}

function fingerprintOf(key: string): string {
  const blob = Buffer.from(key.split(' ')[1] ?? '', 'base64')
  return `${key.split(' ')[0]} SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`
}

function judgeAuthorities(file: string, content: string, configured: readonly string[]): string | undefined {
  if (file === '' || file === 'none') return 'sshd -T names no file (TrustedUserCAKeys)'
  const trusted = content.split('\n').flatMap((line) => (/^\s*(#|$)/.test(line) ? [] : [keyOf(line)]))
  const wanted = configured.map(keyOf)
  const wrong = [
    ...wanted.filter((key) => !trusted.includes(key)).map((key) => `${file} lacks ${fingerprintOf(key)}`),
    ...trusted
      .filter((key) => !wanted.includes(key))
      .map((key) => `${file} has ${fingerprintOf(key)}, which nobody has configured`),
  ]
  return wrong.length === 0 ? undefined : wrong.join('\n')
}

/** Each: the user, the file where sshd wants one, its lines. Without a file, the user's own name is the principal. */
function judgePrincipals(
  told: readonly string[],
  wanted: Readonly<Record<string, readonly string[]>>,
): string | undefined {
  const wrong = told.flatMap((text) => {
    const [user = '', file, ...lines] = text.split('\n')
    if (!Object.hasOwn(wanted, user)) return []
    const names =
      file === undefined
        ? [user]
        : lines.flatMap((line) => (/^\s*(#|$)/.test(line) ? [] : [line.trim().split(/\s+/).at(-1) as string]))
    const expected = wanted[user]?.length ? wanted[user] : [user]
    const where = file ?? 'sshd -T names no file (AuthorizedPrincipalsFile)'
    return [
      ...expected
        .filter((name) => !names.includes(name))
        .map((name) => `${where}: ${user} is not let in as ${name}`),
      ...names
        .filter((name) => !expected.includes(name))
        .map((name) => `${where}: ${user} is let in as ${name}, too`),
    ]
  })
  return wrong.length === 0 ? undefined : wrong.join('\n')
}
