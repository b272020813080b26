import { pauses } from '../core/pauses.ts'
import { poll } from '../core/scope.ts'
import type { GuestConfig } from './answers.ts'
import type { Pve } from './client.ts'
import { PveError } from './errors.ts'
import { type GuestRef, guestApi, readConfig } from './guest-ref.ts'
import { activeTasks } from './guest-tasks.ts'

/**
 * Writes whose answer is lost: pveproxy replaces its workers now and then, and a connection ends without a word. Whether
 * Proxmox has carried such a call out shows in what there is; it is sent again only where it was not.
 */

/** Times that one call is sent at most. */
export const TRIES = 3

/** Whether Proxmox has carried this call out cannot be known from the error. */
export function isAnswerLost(error: unknown): boolean {
  if (!(error instanceof PveError) || error.method === 'GET') return false
  // Answered and passing: the node that was asked lost its connection to the guest's node.
  return error.delivery === 'unknown' || (error.delivery === 'answered' && error.passing)
}

/** A call that has Proxmox work on a guest. */
export interface GuestWork<T> {
  send: () => Promise<T>
  /** waits for the work that the call has begun */
  wait: (answer: T) => Promise<void>
  /** asked when the answer is lost and no task works on the guest any more */
  isDone: () => Promise<boolean>
  signal: AbortSignal
}

/**
 * Sends a call that begins work on a guest, and waits for that. Where the answer is lost, the call is sent again only once the
 * work is known not to be done; what then refuses it, because it was done after all, is no error.
 */
export async function workOn<T>(pve: Pve, guest: GuestRef, work: GuestWork<T>): Promise<void> {
  let isLost = false
  for (let tries = 1; ; tries += 1) {
    try {
      return await work.wait(await work.send())
    } catch (error) {
      work.signal.throwIfAborted()
      isLost ||= isAnswerLost(error)
      if (isLost && (await hasEnded(pve, guest, work))) return
      if (!isAnswerLost(error) || tries === TRIES) throw error
    }
  }
}

/** Milliseconds after which a call that was cut off will begin nothing any more. */
export const APPEARS_MILLISECONDS = 2000

/** Waits until no task works on the guest, and none will begin. */
async function hasEnded<T>(pve: Pve, guest: GuestRef, { isDone, signal }: GuestWork<T>): Promise<boolean> {
  const until = pauses.running() + APPEARS_MILLISECONDS
  return await poll(
    async () => {
      if ((await activeTasks(pve, guest)).length > 0) return undefined
      if (await isDone()) return true
      return pauses.running() < until ? undefined : false
    },
    { signal, first: 200, max: 1000 },
  )
}

/** Changes a guest's configuration at once; of a running guest some changes stay pending. */
export async function writeConfig(
  pve: Pve,
  guest: GuestRef,
  parameters: Readonly<Record<string, unknown>>,
): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await guestApi(pve, guest).config.$put(parameters as never)
      return
    } catch (error) {
      if (!isAnswerLost(error) || tries === TRIES) throw error
      if (isWritten(await readConfig(pve, guest), parameters)) return
    }
  }
}

/** What Proxmox writes in a form of its own may look different; then it is written once more, which changes nothing. */
export function isWritten(config: GuestConfig, parameters: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(parameters).every(([key, value]) => {
    if (value === undefined || key === 'digest') return true
    if (key === 'delete')
      return String(value)
        .split(',')
        .every((name) => config[name] === undefined)
    return normalised(key, config[key]) === normalised(key, value)
  })
}

/** Proxmox sorts tags, writes booleans as numbers, ends a container's description with a newline, and orders options. */
function normalised(key: string, value: unknown): string {
  if (key === 'description') return String(value ?? '').trimEnd()
  const text = typeof value === 'boolean' ? String(Number(value)) : String(value ?? '')
  return [...new Set(text.toLowerCase().split(/[;,]/))].sort().join()
}
