const BEGIN = '# --- BEGIN PVE ---'
const END = '# --- END PVE ---'

/** Puts lines into a file between the marks that Proxmox uses, instead of those that were there before. */
export function withManagedBlock(text: string, lines: readonly string[]): string {
  const [before = '', rest] = text.split(`${BEGIN}\n`, 2)
  const after = rest === undefined ? '' : (rest.split(`${END}\n`, 2)[1] ?? '')
  const ended = before === '' || before.endsWith('\n') ? before : `${before}\n`
  return [ended, ...[BEGIN, ...lines, END].map((line) => `${line}\n`), after].join('')
}
