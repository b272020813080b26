import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { unpackedTo, unpackPackages } from './debian-packages.ts'

/**
 * Netplan's own generator, unpacked with the libraries that it was built with. Debian 12 has 0.106, as Ubuntu 22.04 has
 * with its updates, and Debian 13 has 1.1, as Ubuntu 24.04; Ubuntu 26.04 has 1.2.
 */

const LIBRARIES = [
  ...['libblkid1', 'libc6', 'libffi8', 'libmount1', 'libpcre2-8-0', 'libselinux1', 'libuuid1', 'libyaml-0-2'],
  ...['libatomic1', 'zlib1g'],
]
const PACKAGES = {
  bookworm: ['netplan.io', 'libnetplan0', 'libglib2.0-0', ...LIBRARIES],
  trixie: ['netplan-generator', 'libnetplan1', 'libglib2.0-0t64', ...LIBRARIES],
} as const

export const NETPLAN_RELEASES = ['bookworm', 'trixie'] as const
export type NetplanRelease = (typeof NETPLAN_RELEASES)[number]

/** @throws Error of apt-get */
export function fetchNetplan(release: NetplanRelease): void {
  unpackPackages('netplan', release, PACKAGES[release])
}

const generator = (release: NetplanRelease) =>
  join(unpackedTo('netplan', release), 'usr/libexec/netplan/generate')

/** Why it cannot run here, or false. */
export function noNetplan(release: NetplanRelease): string | false {
  if (process.arch !== 'x64' && process.arch !== 'arm64') return `there is none for ${process.arch}`
  return existsSync(generator(release)) ? false : 'not there (node test/prerequisites.ts)'
}

/**
 * What netplan makes of its file in a guest that has systemd-networkd, as Ubuntu's servers have.
 * @param folder empty; the guest's root
 * @returns the files for eth0: `link` is udev's, which gives the name, `network` is networkd's
 * @throws execa's error with what netplan said
 */
export async function generateNetwork(
  release: NetplanRelease,
  document: string,
  folder: string,
): Promise<{ link: string; network: string }> {
  await mkdir(join(folder, 'etc/netplan'), { recursive: true })
  await writeFile(join(folder, 'etc/netplan/50-cloud-init.yaml'), document, { mode: 0o600 })
  const [triplet, loader] =
    process.arch === 'arm64'
      ? ['aarch64-linux-gnu', 'ld-linux-aarch64.so.1']
      : ['x86_64-linux-gnu', 'ld-linux-x86-64.so.2']
  // Its own loader and libraries, so that it runs on any machine.
  const libraries = ['lib', 'usr/lib'].map((path) => join(unpackedTo('netplan', release), path, triplet))
  const own = libraries.map((path) => join(path, loader)).find((path) => existsSync(path)) ?? loader
  await execa(own, ['--library-path', libraries.join(':'), generator(release), '--root-dir', folder])
  const read = (end: string) => readFile(join(folder, `run/systemd/network/10-netplan-eth0.${end}`), 'utf8')
  return { link: await read('link'), network: await read('network') }
}
