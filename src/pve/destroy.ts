import { asImagebuildError } from '../core/errors.ts'
import { pauses } from '../core/pauses.ts'
import { poll } from '../core/scope.ts'
import type { GuestConfig } from './answers.ts'
import type { Pve } from './client.ts'
import { type GuestRef, guestApi, readConfig } from './guest-ref.ts'
import { activeTasks } from './guest-tasks.ts'
import { LockedGuest, lockedGuest, type Making } from './locked-guest.ts'
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
 * @param target `ordered`: UPID of the task that we have just ordered to make it, where that has not ended well
 * @throws ByHandError where the worker that was to make it has died: only root can remove it then
 */
export async function destroyGuest(
  pve: Pve,
  target: GuestRef & { run?: string; token?: string; ordered?: string | undefined; signal: AbortSignal },
): Promise<void> {
  const { vmid, run, token, ordered, signal } = target
  const guest = guestApi(pve, target)
  const locked = new LockedGuest(pve, target, { ordered })
  await poll(
    async () => {
      const { count } = pauses
      const config = await configIfThere(pve, target)
      if (config === undefined) return true
      if (isBeingMade(config)) return goesByItself(pve, target, await locked.look())
      const note = parseNote(vmid, config.description)
      const isMeant = (token ?? note?.guest) === note?.guest && (run ?? note?.run) === note?.run
      if (!isMeant) return true
      try {
        const { status } = await guest.status.current.$get()
        // Where stopping fails, it may have stopped by itself: what counts is whether it can be deleted.
        if (status === 'running') await stopGuest(pve, target, signal).catch(() => signal.throwIfAborted())
        // Another call's stop may be at its end, whose hook would write the configuration of what is gone.
        else if ((await activeTasks(pve, target)).length > 0) return undefined
        // Whose it was before a pause of this process it need not be any more.
        pauses.look()
        if (pauses.count !== count) return undefined
        const upid = await guest.$delete({ purge: true })
        await pve.waitTask(upid, { seconds: 300, signal })
        return true
      } catch (error) {
        // The next look tells; a task of Proxmox that has the guest locked ends, and a removal waits for it ten seconds only.
        if (isAnswerLost(error) || hasLock(error)) return undefined
        // It went between two calls.
        if (isMissing(error) && (await configIfThere(pve, target)) === undefined) return true
        throw error
      }
    },
    { signal, first: 200, max: 1000 },
  )
}

/**
 * The failure of its making removes it, or its end lets us: undefined until then. True where what is being made is somebody
 * else's by now.
 */
function goesByItself(pve: Pve, guest: GuestRef, making: Making): true | undefined {
  if (making.by === 'unsettled') return undefined
  if (making.by !== 'task') throw lockedGuest(pve, guest, making)
  return making.ours || !making.sure ? undefined : true
}

/** Another task of Proxmox works on the guest, and has its lock file. */
function hasLock(error: unknown): boolean {
  return /can't lock file .* got timeout/i.test(asImagebuildError(error).message)
}

/** Proxmox answers 500 for a guest that does not exist. */
export function isMissing(error: unknown): boolean {
  return /does not exist|no such VM|unable to find configuration file/i.test(asImagebuildError(error).message)
}
