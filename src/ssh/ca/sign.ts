import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { asImagebuildError, ImagebuildError } from '../../core/errors.ts'
import { type Authority, type OpenOptions, pairOf } from './authority.ts'
import { type CertificateKind, fingerprintOf, isCertificate } from './certificate.ts'
import { checkPassphrase, isInAgent, isLocked, keygen } from './keygen.ts'
import type { CaKey } from './pair.ts'
import { checkHostNames, checkIdentity, checkPrincipals } from './principals.ts'
import { keygenWindow, type Validity, windowOf } from './validity.ts'

/** Signing: first written down, then signed, then handed out. */

export type Passphrase = string | (() => Promise<string>)

export interface UserRequest {
  /** public key line */
  publicKey: string
  /** what sshd writes into its log at each login */
  identity: string
  /** names that servers let in: a user's, or what AuthorizedPrincipalsFile says */
  principals: readonly string[]
  validity: Validity
  /** as `ssh-keygen -O` has them: `force-command=…`, `source-address=…`, `no-pty` */
  options?: readonly string[]
  /** pair of keys that signs; the newest when missing */
  generation?: number
}

export interface HostRequest {
  /** public key line */
  publicKey: string
  /** first its name, then others that it is called by, addresses too */
  hostnames: readonly string[]
  validity: Validity
  /** default the first of `hostnames` */
  identity?: string
  generation?: number
}

/** @throws ImagebuildError `usage` for what cannot be in a certificate; as `keygen` */
export async function signUser(
  authority: Authority,
  request: UserRequest,
  open: OpenOptions,
): Promise<string> {
  return await sign(authority, 'user', { ...request, principals: checkPrincipals(request.principals) }, open)
}

/** @throws ImagebuildError as `signUser` */
export async function signHost(
  authority: Authority,
  request: HostRequest,
  open: OpenOptions,
): Promise<string> {
  const principals = checkHostNames(request.hostnames)
  return await sign(
    authority,
    'host',
    { ...request, principals, identity: request.identity ?? (principals[0] as string) },
    open,
  )
}

async function sign(
  { pairs, folder, log }: Authority,
  kind: CertificateKind,
  request: UserRequest,
  { passphrase, signal }: OpenOptions,
): Promise<string> {
  const { publicKey, principals, validity, options = [] } = request
  const identity = checkIdentity(request.identity)
  const pair = request.generation === undefined ? pairs[0] : pairOf(pairs, request.generation)
  const ca = (pair as (typeof pairs)[number])[kind]
  const window = windowOf(validity)
  if (isCertificate(publicKey)) {
    throw new ImagebuildError({
      code: 'usage',
      what: 'a certificate cannot be certified',
      why: 'this is one already',
      next: 'name the public key that it was made from',
    })
  }
  const fingerprint = await fingerprintOf(publicKey, signal)
  const key = await unlock(ca, passphrase, signal)
  let serial: number
  {
    await using _ = await folder.lock(signal)
    serial = (await log.read()).lastSerial + 1
    await log.append({
      event: 'issued',
      kind,
      serial,
      identity,
      principals: [...principals],
      validFrom: window.from.toISOString(),
      validTo: window.to.toISOString(),
      fingerprint,
      ca: ca.fingerprint,
      ...(options.length > 0 && { options: [...options] }),
    })
  }
  const directory = await mkdtemp(join(tmpdir(), 'imagebuild-certificate-'))
  try {
    const file = join(directory, 'key')
    await writeFile(`${file}.pub`, `${publicKey.trim()}\n`)
    await keygen(
      [
        '-q',
        ...('agent' in key ? ['-U', '-s', ca.publicFile] : ['-s', key.file]),
        ...(kind === 'host' ? ['-h'] : []),
        ...['-I', identity, '-n', principals.join(','), '-V', keygenWindow(window), '-z', `${serial}`],
        ...options.flatMap((option) => ['-O', option]),
        `${file}.pub`,
      ],
      { what: 'the certificate could not be signed', passphrase: key.passphrase, signal },
    )
    return (await readFile(`${file}-cert.pub`, 'utf8')).trim()
  } catch (error) {
    await using _ = await folder.lock()
    await log.append({ event: 'void', serial, why: asImagebuildError(error).message })
    throw error
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

type Unlocked = { file: string; passphrase?: string } | { agent: true; passphrase?: never }

/** Where the key is ready to sign. A person is asked for the passphrase only where ssh-agent was not given the key. */
async function unlock(
  { privateFile, publicKey }: CaKey,
  passphrase: Passphrase | undefined,
  signal?: AbortSignal,
): Promise<Unlocked> {
  if (privateFile === undefined) return { agent: true }
  if (typeof passphrase === 'string') return { file: privateFile, passphrase }
  if (!(await isLocked(privateFile, signal))) return { file: privateFile }
  if (await isInAgent(publicKey, signal)) return { agent: true }
  if (passphrase === undefined) {
    throw new ImagebuildError({
      code: 'permission_denied',
      what: 'the certificate could not be signed',
      why: 'the key of the CA is locked by a passphrase, and none is given',
      next: `--passphrase env:NAME, file:/path or cmd:command; or give the key to ssh-agent: ssh-add ${privateFile}`,
    })
  }
  const asked = await passphrase()
  checkPassphrase(asked)
  return { file: privateFile, passphrase: asked }
}
