/**
 * The tiny system as a distribution of its own: it has dpkg's packages, and apt's sources name one suite. Its definition names
 * that suite too, with the key of a test, so that nothing of it depends on an archive on the Internet.
 */

export interface TinyPackage {
  name: string
  version: string
}

/** Without an ID: Proxmox takes it for a Debian by its other files, and nobody knows which archives it has. */
const OS_RELEASE = 'VERSION_ID="1"\nPRETTY_NAME="tiny 1"\n'
const LISTED = '/var/lib/dpkg-packages'

/** Lines of a definition's `provision`. */
export function tinyLayers(archive: string, packages: readonly TinyPackage[]): string {
  const file = (path: string, content: string, mode = '0644') =>
    `  - file: { path: ${path}, mode: "${mode}", content: ${JSON.stringify(content)} }\n`
  const rows = packages.map(({ name, version }) =>
    [name, version, 'amd64', name, version, 'installed', 'install'].join('\t'),
  )
  return (
    file('/etc/os-release', OS_RELEASE) +
    file(LISTED, rows.map((row) => `${row}\n`).join('')) +
    file('/usr/bin/dpkg-query', `#!/bin/sh\nexec cat ${LISTED}\n`, '0755') +
    file('/etc/apt/sources.list', `deb ${archive}/debian tiny-security main\n`)
  )
}

/** `updates` of its definition; the key lies beside that. */
export const tinyUpdates = (archive: string) =>
  `updates:\n  repositories:\n    - { url: "${archive}/debian", suite: tiny-security, key: key.asc, security: true }\n`

/** What a Packages file says of these. */
export function packagesFile(packages: readonly TinyPackage[]): string {
  return packages
    .map(({ name, version }) => `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\n`)
    .join('\n')
}
