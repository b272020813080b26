import type { RunResult } from '../../src/core/events.ts'

/** A stack is for those who ask for it. */
const STACK = /^\s+at .*[:(]\d+:\d+\)?$/m
const EXIT_CODES = [1, 69, 75, 77]

/** How a `run --json` ended. */
export interface RunEnd {
  exitCode: number
  result: RunResult | undefined
  stderr: string
}

/** What is wrong about the end of a run: it is done, or says clearly why not. */
export function judgeEnd({ exitCode, result, stderr }: RunEnd): string[] {
  if (result === undefined) return ['it did not come to its end']
  if (exitCode === 0) return []
  const { code, what, why, next } = (result.error ?? {}) as Record<string, string>
  return [
    ...(EXIT_CODES.includes(exitCode) ? [] : [`exit code ${exitCode}`]),
    ...(code === 'internal' ? ['an error that nobody foresaw'] : []),
    ...(what ? [] : ['nothing says what failed']),
    ...(why ? [] : ['nothing says why']),
    ...(next ? [] : ['nothing says what to do']),
    ...(STACK.test(stderr) ? ['a stack trace'] : []),
  ]
}
