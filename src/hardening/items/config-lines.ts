/**
 * Shell lines that give settings of a file in place: for the few files that have no folder of drop-ins. What is set
 * already is taken out first, comments stay, so that a second run changes nothing.
 * @param between what stands between name and value there: ` = `, a space
 */
export function setLines(
  path: string,
  between: string,
  settings: Readonly<Record<string, string | number>>,
): string {
  const names = Object.keys(settings).join('|')
  const lines = Object.entries(settings).map(([name, value]) => `'${name}${between}${value}'`)
  return (
    `sed -i -E -e '/^[[:space:]]*(${names})([[:space:]=]|$)/d' -e '$a\\' '${path}'\n` +
    `printf '%s\\n' ${lines.join(' ')} >> '${path}'\n`
  )
}

/** What `setLines` writes, as a regular expression for a check: all of the settings, whatever their order. */
export function hasLines(between: string, settings: Readonly<Record<string, string | number>>): string {
  return Object.entries(settings)
    .map(
      ([name, value]) =>
        `(?=[\\s\\S]*^${name}${between.replace(/^ = $/, '\\s*=\\s*').replace(/^ $/, '\\s+')}${value}$)`,
    )
    .join('')
}
