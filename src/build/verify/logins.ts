import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ImagebuildError } from '../../core/errors.ts'
import { sleep } from '../../core/scope.ts'
import { type Authority, ensureAuthority } from '../../ssh/ca/authority.ts'
import { generateKeyPair } from '../../ssh/openssh.ts'
import { type CertificateRequest, result } from './certificates.ts'
import type { Entered } from './enter.ts'
import type { Attempt, Credentials, OpenSshClient } from './openssh-client.ts'
import type { Result } from './report.ts'

/**
 * Real logins by OpenSSH's client. A CA that is made for the occasion signs certificates of every kind; the clone is made
 * to trust it beside the configured ones. Before and after all that must be refused, the right one must be let in: else
 * a refusal could mean anything.
 */

type Inside = NonNullable<Entered['inside']>
type Door = { client: OpenSshClient; inside: Inside; name: string }

/** Tries of a login that came to no answer, and milliseconds between them: sshd may just be reading its configuration. */
const TRIES = 4
const BETWEEN_TRIES = 1500

const DAY = 24 * 3600 * 1000
/** The right principal, where sshd wants a file of them; without one it is the user's name. */
const RIGHT = 'ib-verify-right'

const TITLES = {
  'configured-ca': 'a certificate of the configured CA lets in',
  right: 'a certificate with the right principal lets in',
  'wrong-principal': 'a certificate with another principal is refused',
  expired: 'an expired certificate is refused',
  revoked: 'a revoked certificate is refused',
  'plain-key': 'a key that nobody has certified is refused',
  password: 'the user’s password is refused',
  control: 'after all refusals the right certificate still lets in',
}
type Case = keyof typeof TITLES

/** @param wantsFile sshd looks for principals in a file; else they are the user's name */
export async function tryLogins(
  door: Door,
  request: CertificateRequest,
  wantsFile: boolean,
): Promise<Result[]> {
  const { signal } = request
  if (wantsFile) await letIn(door.inside, signal)
  const configured = await tryConfigured(door, request, wantsFile)
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-verify-ca-'))
  try {
    const authority = await ensureAuthority(folder, signal)
    return [configured, ...(await tryAll(door, request, authority, wantsFile))]
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** By whom a container was entered is proven already; into a virtual machine somebody else led the way. */
async function tryConfigured(
  { client, inside, name }: Door,
  { signer, signal }: CertificateRequest,
  wantsFile: boolean,
): Promise<Result> {
  const about = result('configured-ca', TITLES['configured-ca'])
  if (inside.certificate !== undefined) return { ...about, outcome: 'passed' }
  if (signer === undefined)
    return {
      ...about,
      outcome: 'skipped',
      found: 'the private key of the CA is not at hand: its public key was compared',
    }
  const { user } = inside
  const key = await generateKeyPair('ib-verify-configured', signal)
  const principals = [wantsFile ? RIGHT : user]
  const certificate = await signer.sign({
    publicKey: key.publicKey,
    principals,
    identity: `verify ${name}`,
    validity: 3600,
  })
  const by = {
    key: await client.file('configured', key.privateKey),
    certificate: await client.file('configured-cert.pub', `${certificate}\n`),
  }
  return judge(about, await attempt(client, user, by, signal), 'accepted')
}

/** On the clone only: its login user has no file of principals, since the definition does not know it. */
async function letIn({ examiner, user }: Inside, signal: AbortSignal): Promise<void> {
  const script = await readFile(new URL('principal.sh', import.meta.url), 'utf8')
  await prepared(
    examiner.run(script, { asRoot: true, env: { LOGIN_USER: user, PRINCIPAL: RIGHT }, seconds: 60, signal }),
  )
}

async function tryAll(
  { client, inside, name }: Door,
  { checks, signal }: CertificateRequest,
  authority: Authority,
  wantsFile: boolean,
): Promise<Result[]> {
  const { user, examiner } = inside
  const [key, stranger] = await Promise.all([
    generateKeyPair('case', signal),
    generateKeyPair('stranger', signal),
  ])
  const now = Date.now()
  const sign = async (
    file: Case,
    principal: string,
    from = -DAY,
    to = DAY,
  ): Promise<[Credentials, string]> => {
    const line = await authority.signUser({
      publicKey: key.publicKey,
      principals: [principal],
      identity: `verify ${name}: ${file}`,
      // The clone's clock may be another one.
      validity: { from: new Date(now + from), to: new Date(now + to) },
    })
    return [{ key: keyFile, certificate: await client.file(`${file}-cert.pub`, `${line}\n`) }, line]
  }
  const keyFile = await client.file('case', key.privateKey)
  const principal = wantsFile ? RIGHT : user
  const [right] = await sign('right', principal)
  const [wrong] = await sign('wrong-principal', 'ib-verify-wrong')
  const [expired] = await sign('expired', principal, -3 * DAY, -2 * DAY)
  const [revoked, line] = await sign('revoked', principal)
  await authority.revoke({ target: line })
  // All kinds of characters, since pwquality may ask root for them too.
  const password = `${randomBytes(18).toString('base64url')}-aA1.`
  await prepareClone(examiner, { user, authority, password }, signal)

  const refusals: [Case, Credentials][] = [
    ['wrong-principal', wrong],
    ['expired', expired],
    ['revoked', revoked],
    ['plain-key', { key: await client.file('stranger', stranger.privateKey) }],
    ['password', { password }],
  ]
  const about = (id: Case) => result(id, TITLES[id])
  const control = await attempt(client, user, right, signal)
  if (control.outcome !== 'accepted') {
    const found = 'the right certificate is not let in either, so that a refusal proves nothing'
    return [
      judge(about('right'), control, 'accepted'),
      ...refusals.map(([id]): Result => ({ ...about(id), outcome: 'skipped', found })),
    ]
  }
  const results = [judge(about('right'), control, 'accepted')]
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

async function prepareClone(
  examiner: Inside['examiner'],
  how: { user: string; authority: Authority; password: string },
  signal: AbortSignal,
): Promise<void> {
  const { user, authority, password } = how
  const [script, list] = await Promise.all([
    readFile(new URL('sshd-cases.sh', import.meta.url), 'utf8'),
    readFile(authority.revokedKeys),
  ])
  await prepared(
    examiner.run(script, {
      asRoot: true,
      env: {
        LOGIN_USER: user,
        CA: authority.userCa[0] as string,
        KRL: list.toString('base64'),
        PASSWORD: password,
      },
      seconds: 120,
      signal,
    }),
  )
}

async function prepared(running: Promise<{ exitCode: number; stderr: string }>): Promise<void> {
  const { exitCode, stderr } = await running
  if (exitCode === 0) return
  throw new ImagebuildError({
    code: 'build_failed',
    what: 'a clone could not be prepared for trying logins',
    why: stderr.trim() || `exit code ${exitCode}`,
  })
}

/** A server's answer; several tries where there is none. */
async function attempt(
  client: OpenSshClient,
  user: string,
  by: Credentials,
  signal: AbortSignal,
): Promise<Attempt> {
  for (let tries = 1; ; tries += 1) {
    const made = await client.attempt(user, by, signal)
    if (made.outcome !== 'unreachable' || tries === TRIES) return made
    await sleep(BETWEEN_TRIES, signal)
  }
}

function judge(
  about: ReturnType<typeof result>,
  { outcome, why }: Attempt,
  wanted: 'accepted' | 'refused',
): Result {
  if (outcome === wanted) return { ...about, outcome: 'passed' }
  if (outcome === 'unreachable')
    return { ...about, outcome: 'failed', found: `no answer, which proves nothing: ${why}` }
  return { ...about, outcome: 'failed', found: outcome === 'accepted' ? 'it was let in' : why }
}
