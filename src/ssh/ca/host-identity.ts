import { mkdir, readFile, rm, stat } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { reachDisk, renameDurably, writeDurably } from '../../core/durable-file.ts'
import { ImagebuildError } from '../../core/errors.ts'
import { lock } from '../../core/lock.ts'
import type { Authority } from './authority.ts'
import { describeCertificate, fingerprintOf } from './certificate.ts'
import { keygen } from './keygen.ts'
import { removeUnfinished, unfinishedPath } from './pair.ts'
import { checkHostNames } from './principals.ts'
import { isRevoked } from './revocation-list.ts'

/**
 * Host keys for machines that are still to be made, with their certificates. Who provisions asks for the same one
 * again and again (Terraform at each plan), so they are kept and handed out again.
 */

export interface HostIdentity {
  hostname: string
  aliases: string[]
  /** OpenSSH private key file, with its last newline; a secret */
  privateKey: string
  /** public key line, without a newline */
  publicKey: string
  /** certificate line, without a newline */
  certificate: string
  validTo: Date
}

export interface HostIdentityRequest {
  hostname: string
  /** other names and addresses of the host */
  aliases?: readonly string[]
  /** seconds, of a certificate that has to be made */
  validity: number
  signal?: AbortSignal | undefined
}

/** sshd's own names for them. */
const KEY = 'ssh_host_ed25519_key'
const CERTIFICATE = `${KEY}-cert.pub`

/** What must be left of a certificate's life for it to be handed out again, as a part of the whole. */
const LEFT = 1 / 5

/**
 * The same answer each time, until the certificate nears its end, its CA is retired, or other names are wanted: then
 * there is a new certificate for the same key. What was revoked is replaced, key and all.
 * @throws ImagebuildError `usage` for names that are none; as signing does
 */
export async function hostIdentity(
  authority: Authority,
  { hostname, aliases = [], validity, signal }: HostIdentityRequest,
): Promise<HostIdentity> {
  const names = checkHostNames([hostname, ...aliases])
  const [name, ...others] = names as [string, ...string[]]
  if (isIP(name) !== 0) {
    throw new ImagebuildError({
      code: 'usage',
      what: `${name} is no host name`,
      why: 'a host seed is kept by the name of its host',
      next: 'give the name first, and addresses as aliases: --alias',
    })
  }
  const { folder } = authority
  // Not the folder's own lock: signing takes that.
  await using _ = await lock(join(folder.hosts, '.lock'), signal)
  await removeUnfinished(folder.hosts)
  const directory = join(folder.hosts, name)
  const answer = (identity: Omit<HostIdentity, 'hostname' | 'aliases'>): HostIdentity => ({
    hostname: name,
    aliases: others,
    ...identity,
  })

  const kept = await readKept(authority, directory, names, signal)
  if (kept?.certificate) return answer(kept.certificate)
  const sign = (publicKey: string) => authority.signHost({ publicKey, hostnames: names, validity })
  if (kept) {
    const certificate = await sign(kept.publicKey)
    await writeDurably(join(directory, CERTIFICATE), `${certificate}\n`, 0o600)
    return answer({ ...kept, certificate, validTo: await endOf(certificate, signal) })
  }

  const unfinished = unfinishedPath(folder.hosts, name)
  await mkdir(unfinished, { mode: 0o700 })
  try {
    const file = join(unfinished, KEY)
    await keygen(['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file], {
      what: `the host key of ${name} could not be made`,
      signal,
    })
    const publicKey = (await readFile(`${file}.pub`, 'utf8')).trim()
    const certificate = await sign(publicKey)
    await writeDurably(join(unfinished, CERTIFICATE), `${certificate}\n`, 0o600)
    for (const half of [file, `${file}.pub`]) await reachDisk(half)
    await rm(directory, { recursive: true, force: true })
    await renameDurably(unfinished, directory)
    const privateKey = await readFile(join(directory, KEY), 'utf8')
    return answer({ privateKey, publicKey, certificate, validTo: await endOf(certificate, signal) })
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true })
    throw error
  }
}

interface Kept {
  privateKey: string
  publicKey: string
  /** only while it can be handed out as it is */
  certificate?: { privateKey: string; publicKey: string; certificate: string; validTo: Date }
}

/** Nothing where there is no key yet, or one that was revoked. */
async function readKept(
  { folder, pairs }: Authority,
  directory: string,
  names: readonly string[],
  signal?: AbortSignal,
): Promise<Kept | undefined> {
  const file = join(directory, KEY)
  if (!(await stat(file).catch(() => undefined))) return undefined
  await folder.checkModes([file])
  const text = async (path: string) => (await readFile(path, 'utf8')).trim()
  const [privateKey, publicKey] = [await readFile(file, 'utf8'), await text(`${file}.pub`)]
  const certificate = await text(join(directory, CERTIFICATE)).catch(() => undefined)
  if (await isRevoked(folder.krl, certificate ?? publicKey)) return undefined
  if (certificate === undefined) return { privateKey, publicKey }
  const { principals, ca, fingerprint, validFrom, validTo } = await describeCertificate(certificate, signal)
  if (!validFrom || !validTo) return { privateKey, publicKey }
  const left = validTo.getTime() - Date.now()
  const good =
    left > LEFT * (validTo.getTime() - validFrom.getTime()) &&
    pairs.some(({ host }) => host.fingerprint === ca) &&
    fingerprint === (await fingerprintOf(publicKey, signal)) &&
    [...principals].sort().join() === [...names].sort().join()
  return {
    privateKey,
    publicKey,
    ...(good && { certificate: { privateKey, publicKey, certificate, validTo } }),
  }
}

async function endOf(certificate: string, signal?: AbortSignal): Promise<Date> {
  return (await describeCertificate(certificate, signal)).validTo as Date
}
