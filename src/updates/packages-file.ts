/** A version of a package that a suite has. */
export interface Offer {
  version: string
  architecture: string
  source: string
  sourceVersion: string
}

/**
 * The stanzas of a Packages file, as it streams by: a hundred thousand of them, of which only the wanted ones are looked into.
 * What Ubuntu gives to a part of all machines only (`Phased-Update-Percentage`) is left out until all get it: which ones do
 * follows from a machine's ID, so that a rebuild could not be said to bring it.
 */
export async function* readStanzas(
  chunks: AsyncIterable<Buffer>,
  names: ReadonlySet<string>,
): AsyncGenerator<{ name: string; offer: Offer }> {
  let rest = ''
  for await (const chunk of chunks) {
    // What is looked at is ASCII, so no character can be cut in two.
    const text = rest + chunk.toString('latin1')
    let start = 0
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n', start)) {
      const found = readStanza(text, start, end, names)
      if (found !== undefined) yield found
      start = end + 2
    }
    rest = text.slice(start)
  }
  const last = readStanza(rest, 0, rest.length, names)
  if (last !== undefined) yield last
}

/** Archives begin a stanza with its name, so that the others need not be searched. */
const USUAL = 'Package: '

function readStanza(
  text: string,
  start: number,
  end: number,
  names: ReadonlySet<string>,
): { name: string; offer: Offer } | undefined {
  if (text.startsWith(USUAL, start)) {
    const line = text.indexOf('\n', start)
    if (!names.has(text.slice(start + USUAL.length, line === -1 ? end : Math.min(line, end)).trim()))
      return undefined
  }
  const stanza = text.slice(start, end)
  const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*?)[ \\t]*$`, 'im').exec(stanza)?.[1]
  const [name, version, architecture] = [field('Package'), field('Version'), field('Architecture')]
  if (name === undefined || version === undefined || architecture === undefined || !names.has(name))
    return undefined
  if (Number(field('Phased-Update-Percentage') ?? 100) < 100) return undefined
  // `Source: glibc (2.36-9)`: the name where it is another one, the version where it is another one.
  const [, source = name, sourceVersion = version] =
    /^(\S+)(?:\s+\((.+)\))?$/.exec(field('Source') ?? '') ?? []
  return { name, offer: { version, architecture, source, sourceVersion } }
}
