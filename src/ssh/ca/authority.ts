import { access } from 'node:fs/promises'
import { writeDurably } from '../../core/durable-file.ts'
import { ImagebuildError } from '../../core/errors.ts'
import { shellWord } from '../../core/shell-word.ts'
import { CaFolder } from './folder.ts'
import { IssueLog } from './issue-log.ts'
import { checkPassphrase } from './keygen.ts'
import { type CaPair, isPublished, type KeyHolder, makePair, publish, readPairs, retirePair } from './pair.ts'
import { createRevocationList } from './revocation-list.ts'
import { type Revocation, type Revoke, revoke } from './revoke.ts'
import { type HostRequest, type Passphrase, signHost, signUser, type UserRequest } from './sign.ts'

/**
 * An SSH certificate authority in a folder: a user CA, whose certificates let people in, and a host CA, whose
 * certificates let people know where they are. ssh-keygen makes and signs everything.
 */
export interface Authority {
  folder: CaFolder
  /** public key lines that are trusted, newest first: what TrustedUserCAKeys holds */
  userCa: string[]
  /** the same of hosts, for `@cert-authority` lines */
  hostCa: string[]
  pairs: CaPair[]
  log: IssueLog
  /** path of the list that sshd's RevokedKeys wants; always there */
  revokedKeys: string
  /** @returns the certificate line, without a newline */
  signUser(request: UserRequest): Promise<string>
  /** @returns the certificate line, without a newline */
  signHost(request: HostRequest): Promise<string>
  revoke(what: Revoke): Promise<Revocation>
}

export interface OpenOptions {
  /** unlocks private keys in files; a function is asked only when one is locked */
  passphrase?: Passphrase | undefined
  signal?: AbortSignal | undefined
}

/**
 * @throws ImagebuildError `not_found` without a CA in the folder, `permission_denied` where others may read its keys
 */
export async function openAuthority(path: string, options: OpenOptions = {}): Promise<Authority> {
  const folder = new CaFolder(path)
  await folder.checkModes([])
  const pairs = await readPairs(folder)
  if (pairs.length === 0) throw folder.noCa()
  const keys = pairs.flatMap(({ user, host }) => [user.privateFile, host.privateFile])
  await folder.checkModes(keys.filter((key) => key !== undefined))
  if (!(await isPublished(folder, pairs))) {
    await using _ = await folder.lock(options.signal)
    await publish(folder)
  }
  const authority: Authority = {
    folder,
    pairs,
    userCa: pairs.map(({ user }) => user.publicKey),
    hostCa: pairs.map(({ host }) => host.publicKey),
    log: new IssueLog(folder.log),
    revokedKeys: folder.krl,
    signUser: (request) => signUser(authority, request, options),
    signHost: (request) => signHost(authority, request, options),
    revoke: (what) => revoke(authority, what, options.signal),
  }
  return authority
}

export type CreateOptions = { folder: string; signal?: AbortSignal | undefined } & KeyHolder

/**
 * A new CA, in a folder that is empty or not there.
 * @throws ImagebuildError `usage` where there is one already: nothing is ever overwritten
 */
export async function createAuthority(options: CreateOptions): Promise<Authority> {
  const folder = new CaFolder(options.folder)
  check(options)
  await folder.prepare()
  {
    await using _ = await folder.lock(options.signal)
    if ((await folder.generations()).length > 0) {
      throw new ImagebuildError({
        code: 'usage',
        what: `there is an SSH CA in ${folder.root} already`,
        why: 'its keys are never overwritten: whoever trusts them would be locked out',
        next: `imagebuild ssh-ca rotate --folder ${shellWord(folder.root)} adds new keys beside the old ones`,
      })
    }
    await begin(folder, options)
  }
  return await openAuthority(options.folder, options)
}

/** Opens the CA in this folder, or makes one without a passphrase. Several processes may do so at once. */
export async function ensureAuthority(path: string, signal?: AbortSignal): Promise<Authority> {
  const folder = new CaFolder(path)
  if ((await folder.generations()).length === 0) {
    await folder.prepare()
    await using _ = await folder.lock(signal)
    if ((await folder.generations()).length === 0) await begin(folder, {}, signal)
  }
  return await openAuthority(path, { signal })
}

/** New keys, which sign from now on. The old ones stay trusted until they are retired. */
export async function rotateAuthority(options: CreateOptions): Promise<Authority> {
  check(options)
  const { folder } = await openAuthority(options.folder)
  {
    await using _ = await folder.lock(options.signal)
    await makePair(folder, options, options.signal)
  }
  return await openAuthority(options.folder, options)
}

/**
 * Takes the trust from old keys, and deletes their private halves.
 * @throws ImagebuildError `not_found` without such a generation, `usage` for the one that signs
 */
export async function retireGeneration(
  path: string,
  generation: number,
  signal?: AbortSignal,
): Promise<void> {
  const { folder } = await openAuthority(path)
  await using _ = await folder.lock(signal)
  const pairs = await readPairs(folder)
  const pair = pairOf(pairs, generation)
  if (pair === pairs[0]) {
    throw new ImagebuildError({
      code: 'usage',
      what: `generation ${generation} of the SSH CA cannot be retired`,
      why: 'it is the one that signs',
      next: 'make its successor first: imagebuild ssh-ca rotate',
    })
  }
  await retirePair(folder, pair)
}

/** @throws ImagebuildError `not_found` */
export function pairOf(pairs: readonly CaPair[], generation: number): CaPair {
  const pair = pairs.find((candidate) => candidate.generation === generation)
  if (pair) return pair
  throw new ImagebuildError({
    code: 'not_found',
    what: `the SSH CA has no generation ${generation}`,
    why: `it has ${pairs.map((candidate) => candidate.generation).join(', ')}`,
    next: 'imagebuild ssh-ca show lists them',
  })
}

function check(options: CreateOptions): void {
  if ('passphrase' in options && options.passphrase !== undefined) checkPassphrase(options.passphrase)
}

/** Under the lock. The first pair comes last: with it, the CA is there. */
async function begin(folder: CaFolder, holder: KeyHolder, signal?: AbortSignal): Promise<void> {
  const there = (path: string) =>
    access(path).then(
      () => true,
      () => false,
    )
  if (!(await there(folder.log))) await writeDurably(folder.log, '', 0o600)
  if (!(await there(folder.krl))) await createRevocationList(folder.krl)
  await makePair(folder, holder, signal)
}
