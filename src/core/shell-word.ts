/** A word as people type it into a shell: in quotes only where it needs them. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : quote(word)
}

/** Single quotes, in which a POSIX shell leaves everything as it is. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
