import type { Tree } from './tree.ts'

/** Proxmox's word for the distribution in a tree, as far as the lab knows how to set it up. */
export async function detectOsType(tree: Tree): Promise<string> {
  const release = (await tree.read('/etc/os-release')) ?? (await tree.read('/usr/lib/os-release')) ?? ''
  const id = /^ID=["']?([a-z0-9._-]+)/m.exec(release)?.[1]
  if (id === 'debian' || id === 'ubuntu') return id
  return id === undefined && (await tree.exists('/etc/debian_version')) ? 'debian' : 'unmanaged'
}

/** Offset 18 of an ELF header, little endian. */
const MACHINES: Record<number, string> = { 3: 'i386', 40: 'armhf', 62: 'amd64', 183: 'arm64', 243: 'riscv64' }

/** What its shell is made for; undefined where that cannot be told. */
export async function detectArchitecture(tree: Tree): Promise<string | undefined> {
  const header = await tree.head('/bin/sh', 20)
  if (header === undefined || header.length < 20 || header.readUInt32BE(0) !== 0x7f454c46) return undefined
  return MACHINES[header.readUInt16LE(18)]
}

const INIT = '/sbin/init'

/** Bytes of the largest systemd: Debian 11's, which has in one file what later ones have in several, is 1.8 MB. */
const LARGEST = 8 << 20

/** The major version of the systemd that is init, by the library that it is linked with; undefined where init is another. */
export async function detectSystemd(tree: Tree): Promise<number | undefined> {
  if (!/\/systemd$/.test(await tree.target(INIT))) return undefined
  const program = (await tree.head(INIT, LARGEST))?.toString('latin1') ?? ''
  const version = /libsystemd-shared-(\d+)(?:[-_.][a-zA-Z0-9]+)*\.so/.exec(program)?.[1]
  return version === undefined ? undefined : Number(version)
}
