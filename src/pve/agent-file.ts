import type { Pve } from './client.ts'
import type { GuestRef } from './guest-ref.ts'

/**
 * A whole file of a virtual machine, read by its guest agent. Undefined where there is no agent or no such file, and where
 * only a part of it came.
 */
export async function readByAgent(
  pve: Pve,
  { node, vmid }: Omit<GuestRef, 'kind'>,
  file: string,
): Promise<string | undefined> {
  const { agent } = pve.api.nodes.$(node).qemu.$(vmid)
  const answer = await agent['file-read'].$get({ file }).catch(() => undefined)
  return answer?.truncated ? undefined : answer?.content
}
