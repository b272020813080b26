/** A program, or an absolute path of a file, and the Debian package that has it. */
export interface Requirement {
  command: string
  package: string
}

/** All that the lab needs of the system, besides Node. */
export function labRequirements(): Requirement[] {
  return [
    { command: 'qemu-system-x86_64', package: 'qemu-system-x86' },
    { command: 'qemu-img', package: 'qemu-utils' },
    { command: '/usr/share/OVMF/OVMF_CODE_4M.fd', package: 'ovmf' },
    { command: 'ip', package: 'iproute2' },
    { command: 'nft', package: 'nftables' },
    { command: 'dnsmasq', package: 'dnsmasq-base' },
    { command: 'openssl', package: 'openssl' },
    { command: 'flock', package: 'util-linux' },
    // containers
    { command: 'lxc-start', package: 'lxc' },
    { command: 'lxc-usernsexec', package: 'lxc' },
    { command: '/usr/share/lxc/config/common.seccomp', package: 'liblxc-common' },
    { command: 'mkfs.ext4', package: 'e2fsprogs' },
    { command: 'mount', package: 'mount' },
    { command: 'nsenter', package: 'util-linux' },
    { command: 'script', package: 'bsdutils' },
    { command: 'ssh-keygen', package: 'openssh-client' },
    { command: 'tar', package: 'tar' },
    { command: 'zstd', package: 'zstd' },
    { command: 'xz', package: 'xz-utils' },
    // cloud-init drives
    { command: 'xorriso', package: 'xorriso' },
  ]
}
