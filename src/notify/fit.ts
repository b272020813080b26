/** Texts that a receiver takes only up to a number of bytes (UTF-8). */

/**
 * As many whole lines as there is room for; what was left off is said in the last one. A single line that is too long
 * is cut within.
 */
export function fitLines(lines: readonly string[], maxBytes: number): string {
  const whole = lines.join('\n')
  if (bytes(whole) <= maxBytes) return whole
  for (let kept = lines.length - 1; kept > 0; kept--) {
    const left = lines.length - kept
    const text = [...lines.slice(0, kept), `(cut here: ${left} more line${left === 1 ? '' : 's'})`].join('\n')
    if (bytes(text) <= maxBytes) return text
  }
  const end = ' … (cut here)'
  return cutText(lines[0] ?? '', maxBytes - bytes(end)) + end
}

/** The beginning, without a character cut in two. */
export function cutText(text: string, maxBytes: number): string {
  let room = maxBytes
  let end = 0
  for (const character of text) {
    room -= bytes(character)
    if (room < 0) break
    end += character.length
  }
  return text.slice(0, end)
}

export function bytes(text: string): number {
  return Buffer.byteLength(text)
}
