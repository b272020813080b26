import { randomBytes } from 'node:crypto'
import { readFile, rm } from 'node:fs/promises'
import { ImagebuildError } from '../../core/errors.ts'
import { type Authority, ensureAuthority } from '../../ssh/ca/authority.ts'
import { generateKeyPair } from '../../ssh/openssh.ts'
import { type CertificateRequest, result } from './certificates.ts'
import type { Entered } from './enter.ts'
import { attempt, type Case, judge, TITLES, tryCases } from './login-cases.ts'
import type { Credentials, OpenSshClient } from './openssh-client.ts'
import { privateFolder } from './private-folder.ts'
import type { Result } from './report.ts'

/**
 * Real logins by OpenSSH's client. A CA that is made for the occasion signs certificates of every kind; the clone is made
 * to trust it beside the configured ones. Before and after all that must be refused, the right one must be let in: else
 * a refusal could mean anything.
 */

type Inside = NonNullable<Entered['inside']>
type Door = { client: OpenSshClient; inside: Inside; name: string }

/** Seconds that a certificate of the configured CA is good for: one login. */
const CONFIGURED_SECONDS = 600

const DAY = 24 * 3600 * 1000
/** The right principal, where sshd wants a file of them; without one it is the user's name. */
const RIGHT = 'ib-verify-right'

/**
 * All cases; without a configured CA those that need none.
 * @param wantsFile sshd looks for principals in a file; else they are the user's name
 */
export async function tryLogins(
  door: Door,
  request: CertificateRequest,
  wantsFile: boolean,
): Promise<Result[]> {
  const { signal } = request
  if (request.ca.length === 0) return await tryWithoutCertificates(door, request)
  if (wantsFile) await letIn(door.inside, signal)
  const configured = await tryConfigured(door, request, wantsFile)
  const folder = await privateFolder()
  try {
    const authority = await ensureAuthority(folder, signal)
    return [configured, ...(await tryAll(door, request, authority, wantsFile))]
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** What a container was entered by is proven already; elsewhere another key has led the way. */
async function tryConfigured(
  { client, inside, name }: Door,
  { signer, signal }: CertificateRequest,
  wantsFile: boolean,
): Promise<Result> {
  const about = result('configured-ca', TITLES['configured-ca'])
  if (inside.by.certificate !== undefined) return { ...about, outcome: 'passed' }
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
    validity: CONFIGURED_SECONDS,
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
  const key = await generateKeyPair('case', signal)
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
  const password = makePassword()
  const krl = await readFile(authority.revokedKeys)
  await prepareClone(examiner, { user, ca: authority.userCa[0] as string, krl, password }, signal)
  return await tryCases({ client, user, checks, signal }, 'right', right, [
    ['wrong-principal', wrong],
    ['expired', expired],
    ['revoked', revoked],
    ...(await strangers(client, password, signal)),
  ])
}

async function tryWithoutCertificates(
  { client, inside }: Door,
  { checks, signal }: CertificateRequest,
): Promise<Result[]> {
  const { user, examiner, by: right } = inside
  const password = makePassword()
  await prepareClone(examiner, { user, ca: '', krl: Buffer.of(), password }, signal)
  const refusals = await strangers(client, password, signal)
  return await tryCases({ client, user, checks, signal }, 'control', right, refusals)
}

/** All kinds of characters, since pwquality may ask root for them too. */
function makePassword(): string {
  return `${randomBytes(18).toString('base64url')}-aA1.`
}

/** What must be refused whoever signs. */
async function strangers(
  client: OpenSshClient,
  password: string,
  signal: AbortSignal,
): Promise<[Case, Credentials][]> {
  const { privateKey } = await generateKeyPair('stranger', signal)
  return [
    ['plain-key', { key: await client.file('stranger', privateKey) }],
    ['password', { password }],
  ]
}

async function prepareClone(
  examiner: Inside['examiner'],
  { user, ca, krl, password }: { user: string; ca: string; krl: Buffer; password: string },
  signal: AbortSignal,
): Promise<void> {
  const script = await readFile(new URL('sshd-cases.sh', import.meta.url), 'utf8')
  await prepared(
    examiner.run(script, {
      asRoot: true,
      env: {
        LOGIN_USER: user,
        CA: ca,
        KRL: krl.toString('base64'),
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
