import type { Architecture } from '../source/context.ts'
import type { Keyring } from '../source/openpgp.ts'

/** A suite of an archive, as a line of sources.list names it, and how it is believed. */
export interface Suite {
  /** of the archive, without a slash at its end: `http://deb.debian.org/debian` */
  url: string
  /** `trixie-updates` */
  suite: string
  components: readonly string[]
  /** a key of any of them must have signed it */
  keyrings: readonly Keyring[]
  /** whether what it offers are security updates */
  isSecurity: boolean
}

/** Names a suite where it is remembered when its index was last seen: `http://deb.debian.org/debian trixie-updates`. */
export function suiteKey({ url, suite }: Pick<Suite, 'url' | 'suite'>): string {
  return `${url} ${suite}`
}

/** A release whose own suites are known. */
export interface DistributionRelease {
  distribution: 'debian' | 'ubuntu'
  /** `trixie`, `noble` */
  codename: string
  architecture: Architecture
}

/** What a distribution's own archive has; more of them are read only where an image uses them. */
const COMPONENTS = {
  debian: ['main', 'contrib', 'non-free', 'non-free-firmware'],
  ubuntu: ['main', 'restricted', 'universe', 'multiverse'],
} as const

/**
 * The suites that a release gets its updates from. An image's own record of its sources decides which components are read,
 * never which archives: whoever can write in a guest could otherwise choose what this machine believes.
 * @param used components that the image's record names; others than the distribution's count for nothing
 * @param mirrors other servers with the same files
 */
export function standardSuites(
  { distribution, codename, architecture }: DistributionRelease,
  keyrings: readonly Keyring[],
  used: readonly string[] = ['main'],
  mirrors: { main?: string | undefined; security?: string | undefined } = {},
): Suite[] {
  const components = COMPONENTS[distribution].filter((name) => name === 'main' || used.includes(name))
  const official = publicArchives(distribution, architecture)
  const main = mirrors.main ?? official.main
  // Ubuntu's mirrors have all pockets; a private mirror of Debian rarely has the security archive.
  const security =
    mirrors.security ?? (distribution === 'ubuntu' ? mirrors.main : undefined) ?? official.security
  const suite = (url: string, name: string, isSecurity = false) => ({
    ...{ url: url.replace(/\/+$/, ''), suite: name, components, keyrings, isSecurity },
  })
  return [
    suite(main, codename),
    suite(main, `${codename}-updates`),
    suite(security, `${codename}-security`, true),
  ]
}

function publicArchives(distribution: 'debian' | 'ubuntu', architecture: Architecture) {
  if (distribution === 'debian')
    return { main: 'http://deb.debian.org/debian', security: 'http://security.debian.org/debian-security' }
  // Canonical serves amd64 from one archive and all other architectures from another.
  return architecture === 'amd64'
    ? { main: 'http://archive.ubuntu.com/ubuntu', security: 'http://security.ubuntu.com/ubuntu' }
    : { main: 'http://ports.ubuntu.com/ubuntu-ports', security: 'http://ports.ubuntu.com/ubuntu-ports' }
}
