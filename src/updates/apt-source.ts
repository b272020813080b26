/** Where apt gets packages from, as sources.list(5) has it. */
export interface AptSource {
  /** `deb`, `deb-src` */
  types: string[]
  /** without name and password */
  uris: string[]
  suites: string[]
  /** none for a suite that is a path */
  components: string[]
  /** paths, fingerprints, or `key sha256:<hex>` for one that stands in the source itself; none: any trusted keyring */
  signedBy: string[]
  /** whether apt takes it without a signature */
  isTrusted: boolean
}

/** One source of one suite. */
export interface NamedSource {
  /** `deb http://deb.debian.org/debian trixie` */
  name: string
  components: string[]
  /** `signed by /usr/share/keyrings/debian-archive-keyring.gpg`; empty for any trusted keyring */
  trust: string
}

const SIGNED_BY = 'signed by '
const NOT_SIGNED = 'not signed'

/** Each suite by itself. */
export function namedSources({
  types,
  uris,
  suites,
  components,
  signedBy,
  isTrusted,
}: AptSource): NamedSource[] {
  const trust = isTrusted ? NOT_SIGNED : signedBy.length === 0 ? '' : `${SIGNED_BY}${signedBy.join(', ')}`
  const names = types.flatMap((type) =>
    uris.flatMap((uri) => suites.map((suite) => `${type} ${uri} ${suite}`)),
  )
  return names.map((name) => ({ name, components, trust }))
}

/** The other way round, for one suite; undefined for what is no name of a source. */
export function sourceOf({ name, components, trust }: NamedSource): AptSource | undefined {
  const [type, uri, suite, ...more] = name.split(' ')
  const isKnown = trust === '' || trust === NOT_SIGNED || trust.startsWith(SIGNED_BY)
  if (!type || !uri || !suite || more.length > 0 || !isKnown) return undefined
  return {
    ...{ types: [type], uris: [uri], suites: [suite], components },
    signedBy: trust.startsWith(SIGNED_BY) ? trust.slice(SIGNED_BY.length).split(', ') : [],
    isTrusted: trust === NOT_SIGNED,
  }
}
