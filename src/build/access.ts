import { join } from 'node:path'
import { writeDurably } from '../core/durable-file.ts'
import { makeFolder } from '../core/make-folder.ts'
import { generateKeyPair, type KeyPair, knownHostsLine } from '../ssh/openssh.ts'

/** The account that builds log in with in a virtual machine; sealing removes it. */
export const BUILD_USER = 'imagebuild'

/** The way into one guest; its key pair is made here and gone with the build. */
export interface Access {
  user: string
  userKey: KeyPair
  /** the only host key that is accepted: its public key line, or its `SHA256:` fingerprint */
  hostKey: string
}

export type HostKeyPair = KeyPair

/** Of a virtual machine also the host key is ours, given to it in its seed: its very first packet can be checked. */
export async function machineAccess(
  run: string,
  signal: AbortSignal,
): Promise<{ access: Access; hostKey: HostKeyPair }> {
  const [userKey, hostKey] = await Promise.all([
    generateKeyPair(`imagebuild-${run}`, signal),
    generateKeyPair(`imagebuild-host-${run}`, signal),
  ])
  return { access: { user: BUILD_USER, userKey, hostKey: hostKey.publicKey }, hostKey }
}

/** Of a container Proxmox makes the host key, and tells its fingerprint while it creates it. */
export async function containerAccess(run: string, signal: AbortSignal): Promise<KeyPair> {
  return await generateKeyPair(`imagebuild-${run}`, signal)
}

/** Writes what a person needs to log in to a kept guest, readable by nobody else; gives the command. */
export async function saveAccess(access: Access, folder: string, address: string): Promise<string> {
  await makeFolder(folder, 0o700)
  const key = join(folder, 'id_ed25519')
  const known = join(folder, 'known_hosts')
  await writeDurably(key, access.userKey.privateKey, 0o600)
  // Nothing but this key is offered: an agent with many would be shut out before its turn.
  const command = `ssh -i ${key} -o IdentitiesOnly=yes -o UserKnownHostsFile=${known}`
  const login = `${access.user}@${address}`
  // Where nobody has been in yet, no more than the fingerprint is known.
  if (access.hostKey.startsWith('SHA256:')) return `${command} ${login}   # its host key is ${access.hostKey}`
  await writeDurably(known, knownHostsLine(address, 22, access.hostKey), 0o600)
  return `${command} ${login}`
}
