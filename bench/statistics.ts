/** The middle value; between the two in the middle where there is none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)]
  const lower = sorted[Math.ceil(sorted.length / 2) - 1]
  if (upper === undefined || lower === undefined) throw new TypeError('the median of nothing')
  return (lower + upper) / 2
}

/** One figure. Those without a limit are there to explain others. */
export interface Measured {
  what: string
  figure: string
  limit?: string
  kept?: boolean
}
