import { readdir, readFile, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { asImagebuildError } from '../../core/errors.ts'
import { agentKeys, isLocked, withoutComment } from '../../ssh/ca/keygen.ts'
import { fingerprint } from '../../ssh/host-key.ts'
import type { KeyLogin } from './definition-keys.ts'

/** A login whose private key is at hand. */
export interface OwnLogin extends KeyLogin {
  /** with the private key, which only ssh itself reads; missing: ssh-agent holds it */
  file?: string
}

export interface OwnKeys {
  logins: OwnLogin[]
  /** of the other keys, why they are of no use; empty where there are none */
  without: string
}

/**
 * The private halves of keys, as whoever runs this would use them: those in ssh-agent, and files in ~/.ssh that have their
 * public key beside them and need no passphrase. Nothing is asked, and a key that is not wanted is not touched.
 */
export async function findOwnKeys(
  wanted: readonly KeyLogin[],
  { folder = join(homedir(), '.ssh'), signal }: { folder?: string; signal?: AbortSignal } = {},
): Promise<OwnKeys> {
  if (wanted.length === 0) return { logins: [], without: '' }
  const held = new Set((await keysOfAgent(signal)).map(withoutComment))
  const files = await filesOf(folder, new Set(wanted.map(({ publicKey }) => publicKey)), signal)
  const logins: OwnLogin[] = []
  const without: string[] = []
  for (const login of wanted) {
    const { user, publicKey } = login
    const file = files.get(publicKey)
    if (held.has(publicKey)) logins.push(login)
    else if (file !== undefined && file.why === undefined) logins.push({ ...login, file: file.path })
    else {
      const why = file?.why ?? `is neither in ssh-agent here nor in ${folder}`
      without.push(`${user}’s key ${fingerprint(publicKey)} ${why}`)
    }
  }
  return { logins, without: without.join('; ') }
}

/** None where there is no agent. */
async function keysOfAgent(signal?: AbortSignal): Promise<string[]> {
  if (!process.env.SSH_AUTH_SOCK) return []
  try {
    return await agentKeys('keys cannot be listed', signal)
  } catch {
    signal?.throwIfAborted()
    return []
  }
}

/** By public key: where the private one lies, and why it is of no use. */
async function filesOf(
  folder: string,
  wanted: ReadonlySet<string>,
  signal?: AbortSignal,
): Promise<Map<string, { path: string; why?: string }>> {
  const found = new Map<string, { path: string; why?: string }>()
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.pub')).sort()
  for (const name of names) {
    const publicKey = withoutComment(await readFile(join(folder, name), 'utf8').catch(() => ''))
    const path = join(folder, name.slice(0, -'.pub'.length))
    const known = found.get(publicKey)
    if (!wanted.has(publicKey) || (known !== undefined && known.why === undefined)) continue
    const isFile = await stat(path).then(
      (one) => one.isFile(),
      () => false,
    )
    if (!isFile) continue
    const why = await whyNot(path, signal)
    found.set(publicKey, { path, ...(why !== undefined && { why }) })
  }
  return found
}

async function whyNot(path: string, signal?: AbortSignal): Promise<string | undefined> {
  try {
    return (await isLocked(path, signal)) ? `has a passphrase: ssh-add ${path}` : undefined
  } catch (error) {
    signal?.throwIfAborted()
    return `cannot be read from ${path}: ${asImagebuildError(error).why ?? ''}`
  }
}
