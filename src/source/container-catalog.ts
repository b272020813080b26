/**
 * The root file systems of images.linuxcontainers.org that have a name here, as the product names of its index.
 * Its `cloud` variant has cloud-init and an SSH server, which its `default` one lacks.
 */
const RELEASES = {
  'debian/12': 'debian:bookworm',
  'debian/13': 'debian:trixie',
  'ubuntu/22.04': 'ubuntu:jammy',
  'ubuntu/24.04': 'ubuntu:noble',
} as const satisfies Record<string, string>

export type ContainerReleaseId = keyof typeof RELEASES

export function containerReleaseIds(): ContainerReleaseId[] {
  return Object.keys(RELEASES) as ContainerReleaseId[]
}
