import { createHash } from 'node:crypto'
import type { Check } from '../../definition/check.ts'
import { PRINCIPALS_FOLDER } from '../../definition/ssh-files.ts'
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
  /** the image has a list of revoked keys, if an empty one */
  revokes?: boolean
  checks: readonly Check[]
  signal: AbortSignal
}

/** What sshd trusts, and who is let in. @returns nothing where nobody is inside: `certificateSummary` says so */
export async function judgeCertificates(
  { client, inside, clone }: Entered,
  request: CertificateRequest,
): Promise<Result[]> {
  if (inside === undefined) return []
  const { results, wantsFile } = await judgeTrust(inside, request)
  return [...results, ...(await tryLogins({ client, inside, name: clone.name }, request, wantsFile))]
}

/** @returns `wantsFile`: sshd looks for the login user's principals in a file */
export async function judgeTrust(
  { examiner, user: login }: Pick<NonNullable<Entered['inside']>, 'examiner' | 'user'>,
  {
    ca,
    principals,
    revokes = false,
    signal,
  }: Pick<CertificateRequest, 'ca' | 'principals' | 'revokes' | 'signal'>,
): Promise<{ results: Result[]; wantsFile: boolean }> {
  // Without a CA, nobody's principals are written.
  const wanted = ca.length === 0 ? {} : principals
  const facts = await readFacts(examiner, 'sshd-trust.sh', {
    env: {
      LOGIN_USER: login,
      USERS: [...new Set([...Object.keys(wanted), login])].join('\n'),
      PRINCIPALS_FOLDER,
    },
    signal,
  })
  const judged = (id: string, title: string, found: string | undefined): Result => ({
    ...result(id, title),
    ...(found === undefined ? { outcome: 'passed' } : { outcome: 'failed', found }),
  })
  const files = all(facts, 'principals')
  const ofLogin = files.find((text) => text.split('\n', 1)[0] === login)
  const revoked = one(facts, 'revoked-keys')
  const results = [
    judged(
      'authorities',
      ca.length === 0 ? 'sshd trusts no CA' : 'sshd trusts the configured CAs and no other',
      judgeAuthorities(one(facts, 'ca-file'), one(facts, 'ca-keys'), ca),
    ),
    judged(
      'principals',
      'each user’s file of principals says what the definition says',
      judgePrincipals(files, all(facts, 'principals-file'), wanted),
    ),
    ...(revoked === '' && !revokes
      ? []
      : [judged('revoked-keys', 'the list of revoked keys is there', judgeRevoked(revoked))]),
  ]
  return { results, wantsFile: ofLogin?.includes('\n') ?? false }
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
  if (file === '') return 'sshd -T does not say what it trusts (TrustedUserCAKeys)'
  if (configured.length === 0)
    return file === 'none' ? undefined : `sshd trusts the CAs in ${file}, and none is configured`
  if (file === 'none') return 'sshd -T names no file (TrustedUserCAKeys)'
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

function judgeRevoked(told: string): string | undefined {
  if (told === '') return 'sshd -T names no file (RevokedKeys): it refuses nothing that was revoked'
  return told.includes(',') ? told : undefined
}

/**
 * @param told each: the user, the file where sshd wants one, its lines. Without a file, the user's own name is the principal.
 * @param folder each: a file in the folder of principals, its lines
 */
function judgePrincipals(
  told: readonly string[],
  folder: readonly string[],
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
  const strange = folder.flatMap((text) => {
    const [path = '', ...lines] = text.split('\n')
    const user = path.slice(PRINCIPALS_FOLDER.length + 1)
    if (Object.hasOwn(wanted, user)) return []
    const names = lines.filter((line) => !/^\s*(#|$)/.test(line)).join(', ')
    return [
      `${path}: the definition says nothing of ${user}${names === '' ? '' : `, who is let in as ${names}`}`,
    ]
  })
  const found = [...wrong, ...strange]
  return found.length === 0 ? undefined : found.join('\n')
}
