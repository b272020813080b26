import { sleep } from '../core/scope.ts'
import type { Pve } from './client.ts'
import { type GuestRef, guestApi } from './guest-ref.ts'
import { workOn } from './lost-answer.ts'

/** How a running guest ends. */

/** Seconds for the task: a container is killed in one or two, and its volumes are unmounted. */
const STOP_SECONDS = 120

/**
 * Seconds after which a container's post-stop hook has written the configuration: 0.3 to 3 s after the container counts as
 * stopped, on real Proxmox VE 8.4 and 9.2.
 */
const HOOK_SECONDS = 3

/**
 * Stops a guest at once, and waits until Proxmox has finished that. A container's post-stop hook reads the whole configuration,
 * and writes this copy back a moment after the container counts as stopped: what is written in between is lost. The task of
 * `status/stop` ends after the hook has written.
 * @throws PveError, PveTaskError where it still runs
 */
export async function stopGuest(pve: Pve, guest: GuestRef, signal: AbortSignal): Promise<void> {
  const { status } = guestApi(pve, guest)
  const isStopped = async () => (await status.current.$get()).status === 'stopped'
  try {
    await workOn(pve, guest, {
      send: () => status.stop.$post(),
      wait: async (upid) => void (await pve.waitTask(upid, { seconds: STOP_SECONDS, signal })),
      isDone: isStopped,
      signal,
    })
  } catch (error) {
    signal.throwIfAborted()
    if (!(await isStopped())) throw error
    // It has stopped by itself: no task says when its hook has written.
    if (guest.kind === 'lxc') await sleep(HOOK_SECONDS * 1000, signal)
  }
}
