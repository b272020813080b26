import type { ImagebuildError } from '../core/errors.ts'
import { failureInShort, renderFailure } from './failure.ts'
import type { Invocation } from './invocation.ts'
import { tell, tellStyled, terminal } from './output.ts'

/** What images failed by, in the order of their results, for people. One Ctrl-C ends many images, and is told once. */
export function tellFailures(failures: readonly ImagebuildError[], invocation: Invocation): void {
  const texts = new Set(failures.map((failure) => renderFailure(failure, invocation)))
  for (const text of texts) tellStyled(text)
}

/** In the log of a CI people begin at the end. */
export function tellFailuresAgain(failures: readonly ImagebuildError[]): void {
  if (!terminal().isTTY) tell([...new Set(failures.map(failureInShort))].join(''))
}
