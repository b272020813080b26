import { join } from 'node:path'
import { packageListFile } from '../build/package-lists.ts'
import type { Ci } from '../definition/ci-schema.ts'
import type { ImageState } from '../plan/staleness.ts'
import { openForgeFor } from './ci-forge.ts'
import { inRepository, type RecordsAt } from './ci-records.ts'
import type { Invocation } from './invocation.ts'
import { LOCKFILE } from './lockfile.ts'
import { print } from './output.ts'

/** `ci run --dry-run`: what would be sent after what would be built, as far as that can be known before. */
export async function tellWouldSend(
  { pullRequest, notify, ping, metrics }: Ci,
  states: readonly ImageState[],
  at: RecordsAt,
  invocation: Invocation,
): Promise<void> {
  const say = (line: string) => print(`${line}\n`)
  for (const { kind } of ping) say(`would ping ${kind}`)
  if (metrics !== undefined) say(`would write ${metrics}`)
  const built = states.filter(({ action }) => action === 'build' || action === 'refresh')
  if (built.length === 0) return
  const { root, target } = at
  const files = [join(root, LOCKFILE), ...built.map(({ image }) => packageListFile(root, { target, image }))]
  const paths = files.map((file) => inRepository(at, file))
  if (pullRequest === undefined) {
    for (const path of paths) say(`would write ${path}`)
  } else {
    const { branch, base } = await openForgeFor(pullRequest, target, invocation, { say, dryRun: say })
    say(`would write the branch ${branch}, upon ${await base()}, with`)
    for (const path of paths) say(`  ${path}`)
    say('would create its pull request, or update it, and report a status')
  }
  for (const { kind, on } of notify) say(`would send a message by ${kind}, on ${on.join(', ')}`)
}
