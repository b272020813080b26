import type { Certificates } from '../plan/certificates.ts'
import { digestOf } from '../plan/identity.ts'
import type { Build } from './context.ts'
import { signerOf } from './signer.ts'
import { keyLoginsOf } from './verify/definition-keys.ts'
import { findOwnKeys, type OwnKeys } from './verify/own-keys.ts'
import type { Signer } from './verify/signer.ts'

/** How clones can be looked into from here, beyond what Proxmox offers for virtual machines. */
export interface WaysIn {
  signer?: Signer
  keys: OwnKeys
  /** digest of them all; missing where there is none */
  tried?: string
}

/** Nothing is tried: a few files are read, and ssh-agent is asked what it holds. */
export async function waysIn(build: Build, certificates: Certificates): Promise<WaysIn> {
  const { image, ancestors, signal } = build
  const signer = await signerOf(build, certificates)
  // Proxmox puts a key into a clone of a virtual machine.
  const wanted = image.kind === 'lxc' ? keyLoginsOf([image, ...ancestors]) : []
  const keys = await findOwnKeys(wanted, { signal })
  const ways = [
    ...(signer === undefined ? [] : ['certificate']),
    ...keys.logins.map(({ user, publicKey }) => `${user} ${publicKey}`),
  ]
  return { keys, ...(signer && { signer }), ...(ways.length > 0 && { tried: digestOf(ways) }) }
}
