/** A command that getting a source runs on this machine, and the Debian package that brings it. */
export interface Requirement {
  command: string
  package: string
}

/** Checking Ubuntu's signed lists, and unpacking what a server has packed. */
const DOWNLOADING: readonly Requirement[] = [
  { command: 'gpgv', package: 'gpgv' },
  { command: 'gzip', package: 'gzip' },
  { command: 'xz', package: 'xz-utils' },
  { command: 'zstd', package: 'zstd' },
]

const BOOTSTRAPPING: readonly Requirement[] = [
  { command: 'mmdebstrap', package: 'mmdebstrap' },
  // Debian's smallest chroots lack it; mmdebstrap then goes on without /proc and /sys.
  { command: 'mount', package: 'mount' },
  { command: 'unshare', package: 'util-linux' },
  { command: 'sfdisk', package: 'fdisk' },
  { command: 'mke2fs', package: 'e2fsprogs' },
  { command: 'mkfs.vfat', package: 'dosfstools' },
  { command: 'mcopy', package: 'mtools' },
  { command: 'qemu-img', package: 'qemu-utils' },
  { command: 'tar', package: 'tar' },
]

/** All that sources need of the system, downloaded or bootstrapped. */
export function sourceRequirements(): Requirement[] {
  return [...DOWNLOADING, ...BOOTSTRAPPING]
}

/** The line that installs a command which turned out to be missing. */
export function installLine(command: string): string {
  const known = sourceRequirements().find((requirement) => requirement.command === command)
  return `apt-get update && apt-get install -y --no-install-recommends ${known?.package ?? command}`
}
