import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKeyPair, type KeyPair, knownHostsLine } from '../ssh/openssh.ts'

/** The account that builds log in with; sealing removes it. */
export const BUILD_USER = 'imagebuild'

/**
 * The way into one guest: a key pair for us and one for the guest, both made here and gone with the build. Since
 * the guest's key is ours, its very first packet can be checked.
 */
export interface Access {
  user: string
  userKey: KeyPair
  hostKey: KeyPair
}

export async function makeAccess(run: string, signal: AbortSignal): Promise<Access> {
  const [userKey, hostKey] = await Promise.all([
    generateKeyPair(`imagebuild-${run}`, signal),
    generateKeyPair(`imagebuild-host-${run}`, signal),
  ])
  return { user: BUILD_USER, userKey, hostKey }
}

/** Writes what a person needs to log in to a kept guest, readable by nobody else; gives the command. */
export async function saveAccess(access: Access, folder: string, address: string): Promise<string> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const key = join(folder, 'id_ed25519')
  const known = join(folder, 'known_hosts')
  await writeFile(key, access.userKey.privateKey, { mode: 0o600 })
  await chmod(key, 0o600)
  await writeFile(known, knownHostsLine(address, 22, access.hostKey.publicKey), { mode: 0o600 })
  // Nothing but this key is offered: an agent with many would be shut out before its turn.
  return `ssh -i ${key} -o IdentitiesOnly=yes -o UserKnownHostsFile=${known} ${access.user}@${address}`
}
