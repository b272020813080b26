import { pauses } from '../../core/pauses.ts'
import { poll } from '../../core/scope.ts'
import { readByAgent } from '../../pve/agent-file.ts'
import { isPublicKeyLine } from '../../ssh/host-key.ts'
import { reachSsh } from '../../ssh/knock.ts'
import type { Build } from '../context.ts'
import type { Clone } from './clone.ts'
import { scanHostKeys } from './openssh-client.ts'

/** What a clone shows as its SSH host keys, and who says that they are its own. */
export interface HostKeys {
  /** public key lines, without comments */
  hostKeys: string[]
  trust: 'guest agent' | 'first use'
}

/** Milliseconds that an SSH server may answer before the agent, which may not be installed. */
const AGENT_MILLISECONDS = 20_000

/** The agent tells them over the API, whose server is known. Where there is none, who answers first is believed. */
export async function hostKeysOf(
  build: Build,
  { guest }: Clone,
  address: string,
  signal: AbortSignal,
): Promise<HostKeys> {
  let answersSince: number | undefined
  return await poll(
    async () => {
      const told = guest.kind === 'vm' ? await keysByAgent(build, guest.vmid) : []
      if (told.length > 0) return { hostKeys: told, trust: 'guest agent' }
      const reach = await reachSsh(address, 22, signal)
      if (reach.banner === undefined) return undefined
      answersSince ??= pauses.running()
      if (guest.kind === 'vm' && pauses.running() - answersSince < AGENT_MILLISECONDS) return undefined
      const scanned = await scanHostKeys(address, signal)
      return scanned.length > 0 ? { hostKeys: scanned, trust: 'first use' } : undefined
    },
    { signal, first: 250, max: 1000 },
  )
}

const HOST_KEYS = ['ed25519', 'ecdsa', 'rsa'].map((type) => `/etc/ssh/ssh_host_${type}_key.pub`)

/** Complete lines only: while a machine boots, a file may be half written. */
async function keysByAgent({ pve, place }: Build, vmid: number): Promise<string[]> {
  const keys: string[] = []
  for (const file of HOST_KEYS) {
    const content = await readByAgent(pve, { node: place.node, vmid }, file)
    const line = /^(\S+ \S+)( .*)?\n/.exec(content ?? '')?.[1]
    // No agent, or no key of the kind that every machine of ours has: not yet.
    if (line === undefined && keys.length === 0) return []
    if (line !== undefined && isPublicKeyLine(line)) keys.push(line)
  }
  return keys
}
