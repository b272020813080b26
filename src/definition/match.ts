import { matchesGlob } from 'node:path'

/** What the shell would expand, were these names files; what is quoted arrives here. */
export function isPattern(name: string): boolean {
  return /[*?[{]/.test(name)
}

/**
 * The names that are asked for, in the order of `known`. Patterns are `*`, `?`, `[…]`, `{a,b}`.
 * @param missing called with what fits no name; its error is thrown
 */
export function matchNames(
  asked: readonly string[],
  known: readonly string[],
  missing: (name: string) => Error,
): string[] {
  const wanted = new Set<string>()
  for (const pattern of asked) {
    const fitting = isPattern(pattern)
      ? known.filter((name) => matchesGlob(name, pattern))
      : known.filter((name) => name === pattern)
    if (fitting.length === 0) throw missing(pattern)
    for (const name of fitting) wanted.add(name)
  }
  return known.filter((name) => wanted.has(name))
}
