import { asImagebuildError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import type { PullRequestSettings } from '../definition/ci-schema.ts'
import { type OpenForge, openForgeFor } from './ci-forge.ts'
import { carryOver, type RecordsAt } from './ci-records.ts'
import type { Invocation } from './invocation.ts'

/** What an earlier run has proposed and nobody has merged yet: a runner that begins empty has its records from there alone. */

interface Looking {
  invocation: Invocation
  at: RecordsAt
  emit: Emit
}

/** For a command that reads from the forge, and can do without it: why it does is a warning. */
export async function forgeToRead(
  settings: PullRequestSettings,
  { invocation, at, emit }: Looking,
): Promise<OpenForge | undefined> {
  const say = (message: string) => emit({ type: 'info', message })
  try {
    return await openForgeFor(settings, at.target, invocation, { say })
  } catch (error) {
    emit({ type: 'warning', message: `an open change is not looked at: ${asImagebuildError(error).message}` })
    return undefined
  }
}

/**
 * Writes the open change's records into this checkout.
 * @returns the images that they are of; what could not be taken over is a problem, since it makes images unknown
 */
export async function takeOver(
  { forge, branch }: OpenForge,
  { invocation: { signal }, at }: Looking,
): Promise<{ carried: string[]; problems: string[] }> {
  try {
    return { carried: await carryOver(at, (path) => forge.read(branch, path), signal), problems: [] }
  } catch (error) {
    signal.throwIfAborted()
    return {
      carried: [],
      problems: [`what ${branch} has is not taken over: ${asImagebuildError(error).message}`],
    }
  }
}
