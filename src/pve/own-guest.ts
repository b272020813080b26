import { ImagebuildError } from '../core/errors.ts'
import type { GuestConfig } from './answers.ts'
import type { Pve } from './client.ts'
import { configIfThere } from './destroy.ts'
import { type GuestRef, guestLabel } from './guest-ref.ts'
import { parseNote } from './marks.ts'

/**
 * The configuration of a guest that this run has made. Another run that took over the claim meanwhile has removed the guest, and
 * may have made one of its own at this VMID, even if its claim is released by now: only the token in the note tells.
 * @throws ImagebuildError `busy` where the guest at this VMID is not this run's any more
 */
export async function readOwnConfig(pve: Pve, guest: GuestRef & { token: string }): Promise<GuestConfig> {
  const config = await configIfThere(pve, guest)
  if (config !== undefined && parseNote(guest.vmid, config.description)?.guest === guest.token) return config
  throw new ImagebuildError({
    code: 'busy',
    what: `${guestLabel(guest)} on ${guest.node} is ${config === undefined ? 'gone' : 'another’s by now'}`,
    why: 'another run, or a user, has removed the guest that this run made: did this process stand still, or was it cut off from Proxmox, until another run took its claim?',
    next: 'run the same command again',
  })
}
