import type { TestProject } from 'vitest/node'
import type { Owner } from '../../src/pve/marks.ts'
import { thisOwner } from '../../src/pve/owner.ts'
import { leaveGround, takeGround } from './ground.ts'
import { realServer } from './real-target.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** the run of the suite, whose process outlives those of its files */
    suiteOwner: Owner
  }
}

/** Around all files of a run: takes its place on a real server. @returns what gives it back */
export default async function setup({ provide }: TestProject): Promise<(() => Promise<void>) | undefined> {
  const owner = await thisOwner()
  provide('suiteOwner', owner)
  const server = await realServer()
  if (server === undefined) return undefined
  try {
    await takeGround(server, owner)
  } catch (error) {
    await server.close()
    throw error
  }
  return async () => {
    try {
      await leaveGround(server)
    } finally {
      await server.close()
    }
  }
}
