#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { useUsualModes } from '../core/umask.ts'
import { endQuietly } from './closed-pipes.ts'
import { leaveOutLocales } from './without-locales.ts'

/**
 * The entry. `--version` is answered before anything is loaded: scripts ask it often, and the rest of the
 * program costs a hundred milliseconds to read.
 */
export const VERSION: string = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
).version

useUsualModes()

// The wrapper sets it for this process; QEMU and other programs that we start choose for themselves.
delete process.env.MALLOC_ARENA_MAX

const { IMAGEBUILD_CALLED: called } = process.env
delete process.env.IMAGEBUILD_CALLED

endQuietly()

const [, , first, ...rest] = process.argv
if (rest.length === 0 && (first === '--version' || first === '-V')) {
  process.stdout.write(`imagebuild ${VERSION}\n`)
} else {
  leaveOutLocales()
  const { runProgram } = await import('./program.ts')
  const { calledAs } = await import('./called.ts')
  if (called !== undefined) calledAs(called)
  const code = await runProgram(process.argv.slice(2), VERSION)
  // An output that could not be written may have set it meanwhile.
  process.exitCode ||= code
}
