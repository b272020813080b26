import * as audit from '../../audit/clone.ts'
import { labClient } from './harness.ts'

export type Clone = audit.Clone

/** A clone on the tests' lab, up and entered. */
export async function bootClone({ template, vmid }: { template: number; vmid: number }): Promise<Clone> {
  const pve = await labClient()
  try {
    const signal = AbortSignal.timeout(600_000)
    const clone = await audit.bootClone({ pve, node: 'lab', template, vmid, signal })
    return {
      ...clone,
      [Symbol.asyncDispose]: async () => {
        await clone[Symbol.asyncDispose]()
        await pve[Symbol.asyncDispose]()
      },
    }
  } catch (error) {
    await pve[Symbol.asyncDispose]()
    throw error
  }
}
