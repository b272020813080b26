import type { TestProject } from 'vitest/node'
import type { Owner } from '../../src/pve/marks.ts'
import { thisOwner } from '../../src/pve/owner.ts'
import { isHeldBy, leaveGround } from './ground.ts'
import { realServer } from './real-target.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** the run of the suite, whose process outlives those of its files */
    suiteOwner: Owner
  }
}

/** Around all files of a run. @returns what is to be done when the last of them has ended */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const owner = await thisOwner()
  provide('suiteOwner', owner)
  return async () => {
    const server = await realServer()
    if (server === undefined) return
    try {
      // A file that ran out of time has left its own.
      if (await isHeldBy(server, owner)) await leaveGround(server)
    } finally {
      await server.close()
    }
  }
}
