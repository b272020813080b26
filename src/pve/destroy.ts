import { asImagebuildError } from '../core/errors.ts'
import { poll } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { type GuestConfig, type GuestRef, guestApi, readConfig } from './guest-ref.ts'
import { activeTasks } from './guest-tasks.ts'
import { isAnswerLost } from './lost-answer.ts'
import { parseNote } from './marks.ts'
import { stopGuest } from './stop.ts'

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
 * Removes a guest and the disks that its configuration names, running or not. Not `destroy-unreferenced-disks`: that takes
 * whatever bears this VMID on any storage, also the disks of another cluster that shares it. A guest that is gone is no
 * error. With `token`, or `run`, only a guest whose note has it is touched: the VMID may be another guest's by now.
 */
export async function destroyGuest(
  pve: Pve,
  target: GuestRef & { run?: string; token?: string; signal: AbortSignal },
): Promise<void> {
  const { vmid, run, token, signal } = target
  const guest = guestApi(pve, target)
  await poll(
    async () => {
      const config = await configIfThere(pve, target)
      if (config === undefined) return true
      if (isBeingMade(config)) return undefined // its own failure removes it, or its end lets us
      const note = parseNote(vmid, config.description)
      const isMeant = (token ?? note?.guest) === note?.guest && (run ?? note?.run) === note?.run
      if (!isMeant) return true
      const { status } = (await guest.status.current.$get()) as unknown as { status: string }
      // Where stopping fails, it may have stopped by itself: what counts is whether it can be deleted.
      if (status === 'running') await stopGuest(pve, target, signal).catch(() => signal.throwIfAborted())
      // Another call's stop may be at its end, whose hook would write the configuration of what is gone.
      else if ((await activeTasks(pve, target)).length > 0) return undefined
      try {
        const upid = (await guest.$delete({ purge: true })) as string
        await pve.waitTask(upid, { seconds: 300, signal })
        return true
      } catch (error) {
        if (isAnswerLost(error)) return undefined // the next look tells
        throw error
      }
    },
    { signal, first: 200, max: 1000 },
  )
}

/** Proxmox answers 500 for a guest that does not exist. */
export function isMissing(error: unknown): boolean {
  return /does not exist|no such VM|unable to find configuration file/i.test(asImagebuildError(error).message)
}
