import { poll } from '../core/scope.ts'
import type { TaskRow } from './answers.ts'
import type { Pve } from './client.ts'
import { type GuestRef, readConfig } from './guest-ref.ts'
import { endedTasks } from './guest-tasks.ts'

/** Of a container's conversion to a template Proxmox tells no task: it must be looked for. */

/** Conversions of this VMID that have ended. */
export async function conversionsOf(pve: Pve, guest: GuestRef): Promise<TaskRow[]> {
  return await endedTasks(pve, guest, 'vztemplate')
}

/**
 * Waits for the end of a conversion.
 * @param earlier UPIDs of those that were over before it began
 * @throws PveTaskError where it has failed
 */
export async function converted(
  pve: Pve,
  guest: GuestRef,
  earlier: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  await poll(
    async () => {
      if ((await readConfig(pve, guest)).template) return true
      const failed = (await conversionsOf(pve, guest)).find(
        (task) => !earlier.has(task.upid) && task.status !== 'OK',
      )
      if (failed !== undefined) await pve.waitTask(failed.upid, { seconds: 60, signal })
      return undefined
    },
    { signal, first: 50, max: 500 },
  )
}
