import type { Pve } from './client.ts'
import { type GuestRef, guestApi } from './guest-ref.ts'

/** Proxmox's answer; `truncated` where the file has more than it gives: 16 MiB, or what was asked for. */
interface Answer {
  content?: string
  truncated?: number | boolean
}

/**
 * A whole file of a virtual machine, read by its guest agent. Undefined where there is no agent or no such file, and where
 * only a part of it came.
 */
export async function readByAgent(
  pve: Pve,
  guest: Omit<GuestRef, 'kind'>,
  file: string,
): Promise<string | undefined> {
  const { agent } = guestApi(pve, { kind: 'vm', ...guest })
  const answer = (await agent['file-read'].$get({ file }).catch(() => undefined)) as Answer | undefined
  return answer?.truncated ? undefined : answer?.content
}
