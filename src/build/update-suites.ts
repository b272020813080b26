import type { Target } from '../definition/config-schema.ts'
import type { Repository } from '../definition/spec.ts'
import { digestBytes, digestOf } from '../plan/identity.ts'
import { archiveKeyrings } from '../source/archive-keys.ts'
import type { Wanted } from '../updates/package-index.ts'
import type { PackageList } from '../updates/package-list.ts'
import { type Suite, standardSuites } from '../updates/suite.ts'

/** Which suites an image gets its updates from, and what is to be read of each for all images together. */

/** Other servers with a distribution's own suites. */
export type Mirrors = Target['mirrors']

/** A code name becomes part of an address, and it comes from the guest's own os-release. */
const CODENAME = /^[a-z][a-z0-9-]*$/

/** A suite that an image uses, and for which machines. */
export interface UsedSuite {
  suite: Suite
  architectures: readonly string[]
}

/**
 * A distribution's own, and those repositories that the definition names and the image has among apt's sources. None where the
 * distribution is not known here. (The `mirror` of a bootstrap is asked while it is built; apt in the image asks the
 * distribution's own archive.)
 */
export async function suitesOf(
  { distribution: { id, codename }, architecture, sources, packages }: PackageList,
  repositories: readonly Repository[],
  mirrors: Mirrors,
): Promise<UsedSuite[]> {
  const isUsed = ({ url, suite }: Repository) =>
    sources.some(
      ({ types, uris, suites }) =>
        types.includes('deb') && suites.includes(suite) && uris.some((uri) => withoutSlash(uri) === url),
    )
  const named = repositories.filter(isUsed).map(({ url, suite, components, keyring, isSecurity }) => ({
    suite: { url, suite, components, keyrings: [keyring], isSecurity },
    architectures: [architecture],
  }))
  const isKnown = (id === 'debian' || id === 'ubuntu') && CODENAME.test(codename)
  if (!isKnown || (architecture !== 'amd64' && architecture !== 'arm64')) return named
  const foreign = packages.map((one) => one.architecture).filter((name) => name !== 'all')
  const architectures = [...new Set([architecture, ...foreign])]
  const components = sources.flatMap((source) => source.components)
  const release = { distribution: id, codename, architecture } as const
  const own = standardSuites(release, await archiveKeyrings(id), components, mirrors[id])
  return [...own.map((suite) => ({ suite, architectures })), ...named]
}

const withoutSlash = (url: string) => url.replace(/\/+$/, '')

/** Names a suite and how it is believed: with another key it is another one. */
export function identityOf({ url, suite, keyrings, isSecurity }: Suite): string {
  const keys = keyrings.map((keyring) => (typeof keyring === 'string' ? keyring : digestBytes(keyring)))
  return digestOf([url, suite, isSecurity, keys])
}

/** One suite, and what several images look for in it. */
export interface Reading {
  suite: Suite
  wanted: Wanted
}

/** Each suite once, for all images together: by its identity. */
export function readingsOf(
  images: readonly { packages: PackageList; suites: readonly UsedSuite[] }[],
): Map<string, Reading> {
  const users = Map.groupBy(
    images.flatMap(({ packages: { packages }, suites }) => suites.map((used) => ({ packages, ...used }))),
    ({ suite }) => identityOf(suite),
  )
  return new Map(
    [...users].map(([identity, using]) => {
      const names = new Set(using.flatMap(({ packages }) => packages.map(({ name }) => name)))
      const architectures = [...new Set(using.flatMap((one) => one.architectures))]
      const components = [...new Set(using.flatMap(({ suite }) => suite.components))]
      const suite = { ...(using[0] as (typeof using)[number]).suite, components }
      return [identity, { suite, wanted: { names, architectures } }]
    }),
  )
}
