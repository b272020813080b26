import { z } from 'zod'

/**
 * Where real Proxmox is slow, racy, or fails in passing, and how much of that a lab plays: `faults` in its config.json.
 * All of it was observed on real Proxmox VE 8.4 and 9.2.
 */

/** share of the occasions at which it happens */
const rate = z.number().min(0).max(1)

export const faults = z.strictObject({
  /**
   * seconds from a container's stop to the end of its post-stop hook, which then writes back the configuration as it
   * was at the stop; observed: 0.3 to 3
   */
  postStopSeconds: z.number().min(0).max(3600).default(0.5),
  /** seconds from the call to the first step of a VM's clone: until then another call to the same VMID is accepted too */
  cloneStartSeconds: z.number().min(0).max(3600).default(0.2),
  /** seconds that a create or clone holds its guest's lock when its work is done, as on a slow storage */
  lockSeconds: z.number().min(0).max(3600).default(0),
  /** what works when it is asked again; by the seed the n-th occasion of each kind is hit, or spared, in every run */
  passingErrors: z
    .strictObject({
      seed: z.int(),
      /** of containers that go down: the next GET of its status is a 500 */
      goingDown: rate.default(0.5),
      /** of the lists of a node's guests that are asked for while one of them is made or removed: a 500 */
      lists: rate.default(0.1),
      /** of requests: the connection ends without an answer, half of them when the work is done */
      connections: rate.default(0.01),
    })
    .optional(),
  /** VMIDs whose create loses its worker before that has done anything: a stub with `lock: create` stays */
  deadWorkers: z.array(z.int().min(100)).default([]),
})

export type FaultsInput = z.input<typeof faults>
export type FaultSettings = z.infer<typeof faults>

/** @throws TypeError that names each wrong setting */
export function readFaults(given: FaultsInput = {}): FaultSettings {
  const { data, error } = faults.safeParse(given)
  if (error) throw new TypeError(`faults: ${z.prettifyError(error)}`)
  return data
}
