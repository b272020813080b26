import { createHash } from 'node:crypto'
import { type AptSource, namedSources } from '../../updates/apt-source.ts'
import type { Apt } from './manifest.ts'

/**
 * Reads what inventory.sh told of apt's sources and keyrings.
 * @param sources `path<NUL>line`, without comments
 * @param sums as `sha256sum --zero` prints them
 */
export function parseApt(sources: string, sums: string): Apt {
  const files = new Map<string, string[]>()
  for (const record of sources.split('\n')) {
    const [path = '', line] = record.split('\0')
    if (line !== undefined) files.set(path, [...(files.get(path) ?? []), line])
  }
  const found = [...files].flatMap(([path, lines]) => {
    if (/^\/etc\/apt\/(sources\.list|sources\.list\.d\/[\w.-]+\.list)$/.test(path))
      return lines.flatMap(ofLine)
    // What apt does not read is there often: `debian.sources.disabled`.
    return /^\/etc\/apt\/sources\.list\.d\/[\w.-]+\.sources$/.test(path)
      ? stanzas(lines).flatMap(ofStanza)
      : []
  })
  const hashes = new Map(
    sums.split('\0').map((sum) => [sum.slice(66), sum.slice(0, 64)] as [path: string, sha256: string]),
  )
  const trusted = [...hashes.keys()].filter((path) =>
    /^\/etc\/apt\/trusted\.gpg(\.d\/[\w.-]+\.(gpg|asc))?$/.test(path),
  )
  const named = found.flatMap(({ signedBy }) => signedBy).filter((text) => text.startsWith('/'))
  return {
    sources: found.sort((a, b) => order(JSON.stringify(a), JSON.stringify(b))),
    keyrings: [...new Set([...trusted, ...named])]
      .sort(order)
      .map((path) => ({ path, sha256: hashes.get(path) ?? null })),
  }
}

const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
const words = (text = '') => text.split(/\s+/).filter(Boolean)

/** `deb [arch=amd64 signed-by=/etc/apt/keyrings/x.gpg] http://deb.debian.org/debian trixie main` */
function ofLine(line: string): AptSource[] {
  const [, type = '', options = '', uri = '', suite = '', components = ''] =
    /^\s*(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)/.exec(line) ?? []
  if (uri === '') return []
  const option = (name: string) => new RegExp(`(?:^|\\s)${name}\\s*=\\s*(\\S+)`, 'i').exec(options)?.[1]
  return [
    {
      types: [type],
      uris: [withoutLogin(uri)],
      suites: [suite],
      components: words(components),
      signedBy: (option('signed-by') ?? '').split(',').filter(Boolean),
      isTrusted: isYes(option('trusted')),
    },
  ]
}

function stanzas(lines: readonly string[]): Map<string, string>[] {
  const all: Map<string, string>[] = [new Map()]
  let last = ''
  for (const line of lines) {
    const fields = all.at(-1) as Map<string, string>
    const [, key, value = ''] = /^([^\s:]+):[ \t]*(.*)$/.exec(line) ?? []
    if (line.trim() === '') all.push(new Map())
    else if (key !== undefined) {
      last = key.toLowerCase()
      fields.set(last, value)
    } else fields.set(last, `${fields.get(last) ?? ''}\n${line.trim()}`)
  }
  return all
}

function ofStanza(fields: ReadonlyMap<string, string>): AptSource[] {
  const uris = words(fields.get('uris')).map(withoutLogin)
  const enabled = fields.get('enabled')
  if (uris.length === 0 || (enabled !== undefined && isNo(enabled))) return []
  return [
    {
      types: words(fields.get('types')),
      uris,
      suites: words(fields.get('suites')),
      components: words(fields.get('components')),
      signedBy: signers(fields.get('signed-by') ?? ''),
      isTrusted: isYes(fields.get('trusted')),
    },
  ]
}

/** A key may stand in the source itself. */
function signers(text: string): string[] {
  if (!text.includes('BEGIN PGP')) return text.split(/[\s,]+/).filter(Boolean)
  return [`key sha256:${createHash('sha256').update(text.trim()).digest('hex')}`]
}

/** As apt reads yes and no. */
const isYes = (text = '') => /^(yes|true|with|on|enable|1)$/i.test(text.trim())
const isNo = (text: string) => /^(no|false|without|off|disable|0)$/i.test(text.trim())

/** The password of a private mirror is nobody's who reads a manifest. */
function withoutLogin(uri: string): string {
  return uri.replace(/^([\w+.-]+:\/\/)[^/]*@/, '$1')
}

/** What a comparison shows: a source that moved to another file, or into another form, is the same. */
export function aptValues({ sources, keyrings }: Apt): Map<string, string> {
  const shown = sources
    .flatMap(namedSources)
    .map(({ name, components, trust }): [string, string] => [
      name,
      [components.join(' '), trust].filter(Boolean).join(', '),
    ])
  const values = new Map<string, string>()
  for (const [name, value] of shown) values.set(name, [values.get(name), value].filter(Boolean).join('; '))
  for (const { path, sha256 } of keyrings)
    values.set(path, sha256 === null ? 'keyring' : `keyring sha256:${sha256.slice(0, 8)}…`)
  return values
}
