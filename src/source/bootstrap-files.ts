import type { BootstrapRecipe } from './bootstrap-recipe.ts'

/** A file of the bootstrapped system. */
export interface SystemFile {
  /** absolute, inside the system */
  path: string
  content: string
  /** a script: mode 0755 instead of 0644 */
  executable?: boolean
}

/**
 * The configuration that makes packages a server template. Everything is a small file of its own in a
 * drop-in folder, so that an administrator finds the distribution's defaults untouched below it.
 */
export function systemFiles(recipe: BootstrapRecipe): SystemFile[] {
  return [
    // C.UTF-8 is built into the C library; the default would generate a locale at first boot.
    { path: '/etc/cloud/cloud.cfg.d/95-locale.cfg', content: 'locale: C.UTF-8\n' },
    // The boot loader is not installed through debconf here, there is nothing to tell it.
    { path: '/etc/cloud/cloud.cfg.d/95-grub-dpkg.cfg', content: 'grub_dpkg: { enabled: false }\n' },
    { path: '/etc/hostname', content: 'localhost\n' },
    {
      path: '/etc/hosts',
      content:
        '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n',
    },
    { path: '/etc/apt/sources.list', content: publicSources(recipe) },
    // Translated package descriptions are a third of what `apt-get update` fetches, and nobody reads them on a server.
    { path: '/etc/apt/apt.conf.d/90no-translations', content: 'Acquire::Languages "none";\n' },
  ]
}

/** What only a virtual machine has: disks, a boot loader, an initial RAM disk. */
export function diskFiles(uuids: { root: string; esp: string }): SystemFile[] {
  return [
    // Seeds come on a disk. Every other data source would be probed over the network at each boot.
    {
      path: '/etc/cloud/cloud.cfg.d/95-datasources.cfg',
      content: 'datasource_list: [ NoCloud, ConfigDrive, None ]\n',
    },
    {
      path: '/etc/fstab',
      content:
        `UUID=${uuids.root} / ext4 defaults,discard,errors=remount-ro 0 1\n` +
        // Mounted when somebody looks into it, which is when the boot loader is updated; no boot waits for it.
        `UUID=${uuids.esp} /boot/efi vfat umask=0077,noauto,x-systemd.automount,x-systemd.idle-timeout=60 0 0\n`,
    },
    // FSTYPE: the initial RAM disk then checks the root file system, and systemd need not do it after it.
    // Drivers of every disk controller that a hypervisor offers, and none of network, RAID or real hardware:
    // a third of the size of MODULES=most, which the firmware has to read and the kernel to unpack.
    { path: '/etc/initramfs-tools/conf.d/image.conf', content: 'MODULES=list\nFSTYPE=ext4\n' },
    { path: '/etc/initramfs-tools/hooks/virtual-disks', content: VIRTUAL_DISKS_HOOK, executable: true },
    {
      path: '/etc/default/grub.d/10_image.cfg',
      content: [
        'GRUB_TIMEOUT=0',
        'GRUB_RECORDFAIL_TIMEOUT=0',
        `GRUB_CMDLINE_LINUX_DEFAULT=""`,
        `GRUB_CMDLINE_LINUX="${KERNEL_OPTIONS}"`,
        'GRUB_TERMINAL="console serial"',
        'GRUB_SERIAL_COMMAND="serial --speed=115200"',
        'GRUB_DISABLE_OS_PROBER=true',
        '',
      ].join('\n'),
    },
  ]
}

/**
 * Modules are only copied: udev loads the one whose device is there. Those that a kernel lacks (the cloud
 * kernel has no AHCI, say) are passed over.
 */
const VIRTUAL_DISKS_HOOK = `#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_mmio virtio_blk virtio_scsi virtio_rng sd_mod sr_mod ext4 \\
  ata_piix ata_generic ahci nvme mptspi sym53c8xx megaraid_sas vmw_pvscsi \\
  hv_storvsc hyperv_keyboard xen-blkfront
`

/** The last `console=` is /dev/console: the serial one, which `qm terminal` and a build's log see. */
export const KERNEL_OPTIONS = 'console=tty0 console=ttyS0,115200'

/**
 * The first grub.cfg. It is written by hand because grub-mkconfig must look at the running machine's disks;
 * the guest's own update-grub replaces it with the first kernel update.
 */
export function firstGrubConfig(rootUuid: string, kernelVersion: string): string {
  return [
    'set timeout=0',
    'serial --speed=115200',
    'terminal_input console serial',
    'terminal_output console serial',
    `search --no-floppy --fs-uuid --set=root ${rootUuid}`,
    'menuentry "Linux" {',
    `  linux /boot/vmlinuz-${kernelVersion} root=UUID=${rootUuid} ro ${KERNEL_OPTIONS}`,
    `  initrd /boot/initrd.img-${kernelVersion}`,
    '}',
    '',
  ].join('\n')
}

/** What the signed GRUB on the ESP reads first: it leads to the real configuration on the root file system. */
export function efiGrubConfig(rootUuid: string): string {
  return [
    `search.fs_uuid ${rootUuid} root`,
    "set prefix=($root)'/boot/grub'",
    'configfile $prefix/grub.cfg',
    '',
  ].join('\n')
}

function publicSources({ distribution, suite, arch }: BootstrapRecipe): string {
  return archiveLines(distribution, suite, publicMirrors(distribution, arch)).join('\n').concat('\n')
}

/** The archives that every administrator knows. */
export function publicMirrors(
  distribution: BootstrapRecipe['distribution'],
  arch: BootstrapRecipe['arch'],
): { main: string; security: string } {
  if (distribution === 'debian') {
    return { main: 'http://deb.debian.org/debian', security: 'http://security.debian.org/debian-security' }
  }
  // Canonical serves amd64 from one archive and all other architectures from another.
  return arch === 'amd64'
    ? { main: 'http://archive.ubuntu.com/ubuntu', security: 'http://security.ubuntu.com/ubuntu' }
    : { main: 'http://ports.ubuntu.com/ubuntu-ports', security: 'http://ports.ubuntu.com/ubuntu-ports' }
}

/** Release, updates and security, as sources.list lines. */
export function archiveLines(
  distribution: BootstrapRecipe['distribution'],
  suite: string,
  mirrors: { main: string; security: string },
): string[] {
  const components = distribution === 'debian' ? 'main' : 'main universe'
  return [
    `deb ${mirrors.main} ${suite} ${components}`,
    `deb ${mirrors.main} ${suite}-updates ${components}`,
    `deb ${mirrors.security} ${suite}-security ${components}`,
  ]
}
