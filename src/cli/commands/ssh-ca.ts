import { writeDurably } from '../../core/durable-file.ts'
import { ImagebuildError } from '../../core/errors.ts'
import {
  type Authority,
  type CreateOptions,
  createAuthority,
  openAuthority,
  retireGeneration,
  rotateAuthority,
} from '../../ssh/ca/authority.ts'
import { describeCertificate, readPublicKey } from '../../ssh/ca/certificate.ts'
import { certAuthorityLines } from '../../ssh/ca/known-hosts.ts'
import { parseValidity } from '../../ssh/ca/validity.ts'
import type { Invocation } from '../invocation.ts'
import { print, tell } from '../output.ts'
import { askPassphrase, checkReference, passphraseBehind } from '../passphrase.ts'

/** `imagebuild ssh-ca …`: what a person says, handed to the authority, and what it says, to the person. */

export interface OfFolder {
  folder: string
}

export interface WithPassphrase extends OfFolder {
  passphrase?: string
}

interface NewKeys extends OfFolder {
  passphrase?: string | false
  agentKey?: string[]
}

interface Signing extends WithPassphrase {
  validity: string
  out?: string
  generation?: number
}

export async function init(invocation: Invocation, options: NewKeys): Promise<void> {
  // Before anybody is asked anything.
  if (await hasAuthority(options)) await createAuthority({ folder: options.folder })
  const authority = await createAuthority(await newKeys(invocation, options))
  printSigner(authority)
  tell(
    `servers trust ${authority.folder.root}/user_ca.pub (TrustedUserCAKeys; \`ssh\` in imagebuild.yaml and image.yaml)\n` +
      'clients trust what `imagebuild ssh-ca known-hosts` prints\n',
  )
}

export async function rotate(invocation: Invocation, options: NewKeys): Promise<void> {
  await openAuthority(options.folder)
  const authority = await rotateAuthority(await newKeys(invocation, options))
  printSigner(authority)
  const old = authority.pairs[1]?.generation
  tell(
    `give servers and clients the new public keys too (\`ssh-ca public\`, \`ssh-ca known-hosts\`); until they have them,\n` +
      `sign with --generation ${old}. When nothing needs the old ones any more: imagebuild ssh-ca retire ${old}\n`,
  )
}

export async function retire(
  invocation: Invocation,
  generation: number,
  { folder }: OfFolder,
): Promise<void> {
  await retireGeneration(folder, generation, invocation.signal)
  print(`generation ${generation} is trusted no more where the new public keys are\n`)
}

export async function signUserKey(
  invocation: Invocation,
  file: string,
  options: Signing & { principal?: string[]; identity?: string; option?: string[] },
): Promise<void> {
  const validity = parseValidity(options.validity)
  const publicKey = await readPublicKey(file)
  const principals = words(options.principal)
  const comment = publicKey.split(' ').slice(2).join(' ')
  const identity = options.identity ?? (comment || principals[0] || '')
  const authority = await openToSign(invocation, options)
  const { generation, option = [] } = options
  const certificate = await authority.signUser({
    ...{ publicKey, identity, principals, validity, options: option },
    ...(generation !== undefined && { generation }),
  })
  await handOut(certificate, file, options.out)
}

export async function signHostKey(
  invocation: Invocation,
  file: string,
  options: Signing & { hostname?: string[] },
): Promise<void> {
  const validity = parseValidity(options.validity)
  const publicKey = await readPublicKey(file)
  const authority = await openToSign(invocation, options)
  const { generation } = options
  const certificate = await authority.signHost({
    ...{ publicKey, hostnames: words(options.hostname), validity },
    ...(generation !== undefined && { generation }),
  })
  await handOut(certificate, file, options.out)
}

export async function revokeKey(
  invocation: Invocation,
  what: string,
  { folder, reason }: OfFolder & { reason?: string },
): Promise<void> {
  const authority = await openAuthority(folder, { signal: invocation.signal })
  // A file may be called 7 too, but then it can be named ./7.
  const target = /^\d+$/.test(what) ? Number(what) : await readPublicKey(what)
  const { changed, version, fingerprint, serial } = await authority.revoke({ target, reason })
  const name = serial === undefined ? `key ${fingerprint}` : `certificate ${serial} of ${fingerprint}`
  print(changed ? `revoked ${name}: version ${version} of the list\n` : `${name} was revoked before\n`)
  if (changed) {
    tell(`it counts where this list is sshd's RevokedKeys: ${authority.revokedKeys}\n`)
  }
}

export async function publicKeys(_: Invocation, { folder }: OfFolder): Promise<void> {
  const { userCa } = await openAuthority(folder)
  print(userCa.map((key) => `${key}\n`).join(''))
}

export async function knownHosts(
  _: Invocation,
  { folder, domain }: OfFolder & { domain?: string[] },
): Promise<void> {
  const { hostCa } = await openAuthority(folder)
  print(certAuthorityLines(hostCa, words(domain)))
}

/** Opened so that a locked key is unlocked by reference, or else by asking; neither where no key is locked. */
export async function openToSign(invocation: Invocation, options: WithPassphrase): Promise<Authority> {
  const { folder, passphrase } = options
  if (passphrase !== undefined) checkReference(passphrase)
  return await openAuthority(folder, {
    signal: invocation.signal,
    passphrase: async () =>
      passphrase === undefined
        ? await askPassphrase(invocation, `passphrase of the SSH CA in ${folder}`, {
            instead: `give it by reference: --passphrase env:NAME, file:/path or cmd:command; or give ssh-agent its keys: ssh-add ${folder}/keys/*/*_ca`,
          })
        : await passphraseBehind(invocation, passphrase),
  })
}

/** Values of an option that was repeated, each of them one or several with commas. */
export function words(values: readonly string[] = []): string[] {
  return values.flatMap((value) => value.split(',')).map((value) => value.trim())
}

async function hasAuthority({ folder }: OfFolder): Promise<boolean> {
  return await openAuthority(folder).then(
    () => true,
    (error) => {
      if (error instanceof ImagebuildError && error.code === 'not_found') return false
      throw error
    },
  )
}

/** Who holds the new keys: exactly one of three must be chosen. */
async function newKeys(invocation: Invocation, options: NewKeys): Promise<CreateOptions> {
  const { folder, passphrase, agentKey } = options
  const { signal } = invocation
  if (agentKey !== undefined) {
    const [user, host, ...more] = agentKey
    if (passphrase !== undefined || user === undefined || host === undefined || more.length > 0) {
      throw new ImagebuildError({
        code: 'usage',
        what: '--agent-key must be given twice, and without a passphrase',
        why: 'the first is the key of the user CA, the second that of the host CA; ssh-agent has unlocked them',
        next: '`ssh-add -l` lists fingerprints and comments',
      })
    }
    return { folder, signal, agent: { user, host } }
  }
  if (passphrase === false) return { folder, signal }
  const secret =
    passphrase === undefined
      ? await askPassphrase(invocation, `new passphrase of the SSH CA in ${folder}`, {
          twice: true,
          instead: 'give --passphrase env:NAME, file:/path or cmd:command, or --no-passphrase',
        })
      : await passphraseBehind(invocation, passphrase)
  return { folder, signal, passphrase: secret }
}

function printSigner({ pairs: [newest] }: Authority): void {
  if (!newest) return
  for (const kind of ['user', 'host'] as const) {
    print(`${kind} CA ${newest.generation}: ${newest[kind].fingerprint}\n`)
  }
}

/** Beside the key, where ssh looks for it, or where it was asked for. */
async function handOut(certificate: string, file: string, out: string | undefined): Promise<void> {
  if (out === '-') {
    print(`${certificate}\n`)
    return
  }
  const path = out ?? `${file.replace(/\.pub$/, '')}-cert.pub`
  await writeOut(path, `${certificate}\n`, 0o644)
  const { kind, serial, principals, validTo } = await describeCertificate(certificate)
  print(
    `${path}: ${kind} certificate ${serial} for ${principals.join(', ')}, until ${validTo?.toISOString()}\n`,
  )
}

/** @throws ImagebuildError `usage` where it cannot be written */
export async function writeOut(path: string, content: string, mode: number): Promise<void> {
  try {
    await writeDurably(path, content, mode)
  } catch (cause) {
    throw new ImagebuildError({
      code: 'usage',
      what: `${path} cannot be written`,
      why: (cause as Error).message,
      next: 'name another place: --out <file>',
      cause,
    })
  }
}
