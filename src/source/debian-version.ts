/**
 * Debian's order of versions (deb-version(7)): less than 0 if `a` is the older one. Proxmox numbers its
 * appliances that way: `12.10-1` is newer than `12.7-1`, and `13.0~rc1-1` older than `13.0-1`.
 */
export function compareVersions(a: string, b: string): number {
  // Nearly all that is compared: what is installed with what an archive has.
  if (a === b) return 0
  const [left, right] = [split(a), split(b)]
  return (
    left.epoch - right.epoch ||
    compareParts(left.upstream, right.upstream) ||
    compareParts(left.revision, right.revision)
  )
}

function split(version: string): { epoch: number; upstream: string; revision: string } {
  const [, epoch = '0', rest = ''] = /^(?:(\d+):)?(.*)$/s.exec(version) ?? []
  const dash = rest.lastIndexOf('-')
  return {
    epoch: Number(epoch),
    upstream: dash === -1 ? rest : rest.slice(0, dash),
    revision: dash === -1 ? '0' : rest.slice(dash + 1),
  }
}

/** Text and numbers in turn, as they stand in the version. */
function compareParts(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => [...(text.match(/\d+|\D+/g) ?? [])]) as [string[], string[]]
  // A version may begin with a number, and always begins with a (then empty) text.
  for (const parts of [left, right]) if (/^\d/.test(parts[0] ?? '')) parts.unshift('')
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const [one = '', other = ''] = [left[i], right[i]]
    const difference = i % 2 === 0 ? compareText(one, other) : compareNumbers(one, other)
    if (difference !== 0) return difference
  }
  return 0
}

/** As texts: a date with time and serial has more digits than a number keeps. */
function compareNumbers(a: string, b: string): number {
  const [left, right] = [a.replace(/^0+/, ''), b.replace(/^0+/, '')]
  return left.length - right.length || (left < right ? -1 : left > right ? 1 : 0)
}

/** A tilde comes before the end, the end before letters, and letters before all else. */
function compareText(a: string, b: string): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const difference = rank(a[i]) - rank(b[i])
    if (difference !== 0) return difference
  }
  return 0
}

function rank(character: string | undefined): number {
  if (character === '~') return -1
  if (character === undefined) return 0
  return character.charCodeAt(0) + (/[A-Za-z]/.test(character) ? 0 : 256)
}
