/**
 * The known name that a mistyped one was probably meant to be. Undefined where nothing is close: a bad guess
 * sends people the wrong way.
 */
export function closest(typed: string, known: Iterable<string>): string | undefined {
  const wanted = typed.toLowerCase()
  const limit = Math.max(1, Math.floor(wanted.length / 3))
  let best: { name: string; distance: number } | undefined
  for (const name of known) {
    const distance = editDistance(wanted, name.toLowerCase())
    if (distance <= limit && distance < (best?.distance ?? Infinity)) best = { name, distance }
  }
  return best?.name
}

/** `did you mean …?`, else what is known, as long as that stays readable. */
export function suggest(typed: string, known: Iterable<string>, label = 'known here'): string | undefined {
  const names = [...known]
  const guess = closest(typed, names)
  if (guess !== undefined) return `did you mean \`${guess}\`?`
  return names.length === 0 ? undefined : `${label}: ${names.join(', ')}`
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  const cell = (row: number[], column: number) => row[column] ?? Infinity
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1] ? 0 : 1
      const swapped = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      current.push(
        Math.min(
          cell(last, column) + 1,
          cell(current, column - 1) + 1,
          cell(last, column - 1) + same,
          swapped ? cell(beforeLast, column - 2) + 1 : Infinity,
        ),
      )
    }
    beforeLast = last
    last = current
  }
  return cell(last, b.length)
}
