/**
 * Names in an archive are bytes. Here they are strings with one character per byte (latin1), so that those which are
 * not UTF-8 survive, and compare in the order of their bytes.
 */

/** Linux's NAME_MAX and PATH_MAX (less its closing NUL), bytes. */
const LONGEST_NAME = 255
export const LONGEST_PATH = 4095

/** A path as a person writes it → as an archive's bytes. */
export function fromText(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1')
}

/** Bytes of a name as text; those that are not UTF-8 become U+FFFD. */
export function toText(name: string): string {
  return Buffer.from(name, 'latin1').toString('utf8')
}

/** For messages: quoted, on one line, cut where it is overlong. */
export function quoteName(name: string): string {
  return JSON.stringify(toText(name.length > 300 ? `${name.slice(0, 300)}...` : name))
}

/**
 * The one form of a path: relative to the root, without `./`, doubled or closing slashes; the root itself is ''.
 * Gives why it is none as `refused`.
 */
export function normalisePath(name: string): { path: string } | { refused: string } {
  if (name === '') return { refused: 'its name is empty' }
  if (name.includes('\0')) return { refused: 'its name has a NUL in it' }
  if (name.startsWith('/')) return { refused: 'its path is absolute' }
  const parts: string[] = []
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue
    if (part === '..') return { refused: 'its path has `..` in it' }
    if (part.length > LONGEST_NAME)
      return { refused: `a part of its path is longer than ${LONGEST_NAME} bytes` }
    parts.push(part)
  }
  const path = parts.join('/')
  if (path.length > LONGEST_PATH) return { refused: `its path is longer than ${LONGEST_PATH} bytes` }
  return { path }
}

/** '' for what lies in the root. */
export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')))
}
