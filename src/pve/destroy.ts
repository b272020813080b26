import { asImagebuildError } from '../core/errors.ts'
import { pauses } from '../core/pauses.ts'
import { poll } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { type GuestConfig, type GuestRef, guestApi, readConfig } from './guest-ref.ts'
import { parseNote } from './marks.ts'

/** How a guest goes, whatever state it is in. */

/** Undefined where there is no such guest on this node. */
export async function configIfThere(pve: Pve, guest: GuestRef): Promise<GuestConfig | undefined> {
  return await readConfig(pve, guest).catch((error) => {
    if (isMissing(error)) return undefined
    throw error
  })
}

/** Until a create or clone is done, Proxmox shows a placeholder: without tags, and without the note. */
export function isBeingMade(config: GuestConfig): boolean {
  return config.lock === 'create' || config.lock === 'clone'
}

/**
 * Removes a guest and the disks that its configuration names, running or not. Not `destroy-unreferenced-disks`: that
 * takes whatever bears this VMID on any storage, also the disks of another cluster that shares it. A guest that is gone is no error. With `run`, only a guest whose
 * note names that run is touched: another may have the VMID by now.
 */
export async function destroyGuest(
  pve: Pve,
  target: GuestRef & { run?: string; signal: AbortSignal },
): Promise<void> {
  const { vmid, run, signal } = target
  const guest = guestApi(pve, target)
  await poll(
    async () => {
      const { count } = pauses
      const config = await configIfThere(pve, target)
      if (config === undefined) return true
      if (isBeingMade(config)) return undefined // its own failure removes it, or its end lets us
      if (run !== undefined && parseNote(vmid, config.description)?.run !== run) return true
      const { status } = (await guest.status.current.$get()) as unknown as { status: string }
      if (status === 'running') {
        // Where stopping fails, it may have stopped by itself: what counts is whether it can be deleted.
        const stop = async () =>
          pve.waitTask((await guest.status.stop.$post()) as string, { seconds: 60, signal })
        await stop().catch(() => signal.throwIfAborted())
      }
      // Whose it was before a pause of this process it need not be any more.
      pauses.look()
      if (pauses.count !== count) return undefined
      const upid = (await guest.$delete({ purge: true })) as string
      await pve.waitTask(upid, { seconds: 300, signal })
      return true
    },
    { signal, first: 200, max: 1000 },
  )
}

/** Proxmox answers 500 for a guest that does not exist. */
export function isMissing(error: unknown): boolean {
  return /does not exist|no such VM|unable to find configuration file/i.test(asImagebuildError(error).message)
}
