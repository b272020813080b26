import { access, mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { reachDisk, renameDurably, writeDurably } from '../../core/durable-file.ts'
import { ImagebuildError } from '../../core/errors.ts'
import { type CertificateKind, fingerprintOf } from './certificate.ts'
import type { CaFolder } from './folder.ts'
import { IssueLog } from './issue-log.ts'
import { agentKeys, keygen } from './keygen.ts'

/** A user CA and a host CA, made together. */

export interface CaPair {
  /** counts from 1; the highest one signs */
  generation: number
  user: CaKey
  host: CaKey
}

export interface CaKey {
  /** public key line */
  publicKey: string
  /** `SHA256:…` */
  fingerprint: string
  publicFile: string
  /** missing where ssh-agent holds the key, or nobody any more */
  privateFile?: string
}

/** Where the private keys of a new pair are: in files, with a passphrase or without, or in ssh-agent. */
export type KeyHolder =
  | { passphrase?: string | undefined }
  /** fingerprints or comments, as `ssh-add -l` lists them */
  | { agent: { user: string; host: string } }

const KINDS = ['user', 'host'] as const

/** All pairs that are trusted, newest first. */
export async function readPairs(folder: CaFolder): Promise<CaPair[]> {
  return await Promise.all((await folder.generations()).map((n) => readPair(join(folder.keys, `${n}`), n)))
}

/** Of pairs that are trusted no more the public keys are kept, to know their certificates by. */
export async function readRetiredPairs(folder: CaFolder): Promise<CaPair[]> {
  const generations = await folder.retiredGenerations()
  return await Promise.all(generations.map((n) => readPair(join(folder.retired, `${n}`), n)))
}

async function readPair(directory: string, generation: number): Promise<CaPair> {
  const [user, host] = await Promise.all(KINDS.map((kind) => readKey(directory, kind)))
  return { generation, user: user as CaKey, host: host as CaKey }
}

async function readKey(directory: string, kind: CertificateKind): Promise<CaKey> {
  const privateFile = join(directory, `${kind}_ca`)
  const publicFile = `${privateFile}.pub`
  const publicKey = (await readFile(publicFile, 'utf8')).trim()
  const there = await access(privateFile).then(
    () => true,
    () => false,
  )
  const fingerprint = await fingerprintOf(publicKey)
  return { publicKey, fingerprint, publicFile, ...(there && { privateFile }) }
}

/** Makes the next pair, under the folder's lock. It is there only when all of it is. */
export async function makePair(folder: CaFolder, holder: KeyHolder, signal?: AbortSignal): Promise<void> {
  const generation = Math.max(0, ...(await folder.generations()), ...(await folder.retiredGenerations())) + 1
  await removeUnfinished(folder.keys)
  const unfinished = unfinishedPath(folder.keys, `${generation}`)
  await mkdir(unfinished, { mode: 0o700 })
  try {
    for (const kind of KINDS) {
      const file = join(unfinished, `${kind}_ca`)
      if ('agent' in holder) {
        await writeDurably(`${file}.pub`, `${await heldByAgent(holder.agent[kind], signal)}\n`, 0o600)
      } else {
        const { passphrase } = holder
        const none = passphrase === undefined ? ['-N', ''] : []
        await keygen(
          ['-q', '-t', 'ed25519', ...none, '-C', `imagebuild ${kind} CA ${generation}`, '-f', file],
          { what: `the key of the ${kind} CA could not be made`, passphrase, signal },
        )
        for (const half of [file, `${file}.pub`]) await reachDisk(half)
      }
    }
    await reachDisk(unfinished)
    const { user, host } = await readPair(unfinished, generation)
    await new IssueLog(folder.log).append({
      event: 'created',
      generation,
      userCa: user.fingerprint,
      hostCa: host.fingerprint,
    })
    await renameDurably(unfinished, join(folder.keys, `${generation}`))
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true })
    throw error
  }
  await publish(folder)
}

/** Takes the trust from a pair: its private keys are deleted, its public ones no longer handed out. */
export async function retirePair(folder: CaFolder, pair: CaPair): Promise<void> {
  const { generation, user, host } = pair
  await new IssueLog(folder.log).append({
    event: 'retired',
    generation,
    userCa: user.fingerprint,
    hostCa: host.fingerprint,
  })
  for (const { privateFile } of [user, host]) if (privateFile !== undefined) await rm(privateFile)
  await renameDurably(join(folder.keys, `${generation}`), join(folder.retired, `${generation}`))
  await reachDisk(folder.keys)
  await publish(folder)
}

/** Writes the files of all public keys that are trusted, which stay where they are through rotations. */
export async function publish(folder: CaFolder): Promise<void> {
  for (const { path, content } of published(folder, await readPairs(folder))) {
    await writeDurably(path, content, 0o644)
  }
}

/** False where a crash came between a change of keys and the files that tell of it. */
export async function isPublished(folder: CaFolder, pairs: readonly CaPair[]): Promise<boolean> {
  for (const { path, content } of published(folder, pairs)) {
    if ((await readFile(path, 'utf8').catch(() => undefined)) !== content) return false
  }
  return true
}

function published(folder: CaFolder, pairs: readonly CaPair[]): { path: string; content: string }[] {
  return KINDS.map((kind) => ({
    path: join(folder.root, `${kind}_ca.pub`),
    content: pairs.map((pair) => `${pair[kind].publicKey}\n`).join(''),
  }))
}

/** Where something is put together before it gets its name; no host is called like that. */
export function unfinishedPath(directory: string, name: string): string {
  return join(directory, `.new-${name}`)
}

/** What a crash has left behind, private keys above all; under the lock nobody else is at it. */
export async function removeUnfinished(directory: string): Promise<void> {
  const left = (await readdir(directory)).filter((name) => name.startsWith('.new-'))
  for (const name of left) await rm(join(directory, name), { recursive: true })
}

async function heldByAgent(name: string, signal?: AbortSignal): Promise<string> {
  const what = `ssh-agent does not hold one key ${name}`
  const found: string[] = []
  for (const line of await agentKeys(what, signal)) {
    const comment = line.split(' ').slice(2).join(' ')
    if (comment === name || (await fingerprintOf(line, signal)) === name) found.push(line)
  }
  if (found.length === 1) return found[0] as string
  throw new ImagebuildError({
    code: 'not_found',
    what,
    why:
      found.length > 1
        ? `${found.length} of its keys have that comment`
        : 'none of its keys has that fingerprint or comment',
    next: '`ssh-add -l` lists fingerprints and comments, `ssh-add <file>` adds a key',
  })
}
