import { createHash } from 'node:crypto'
import { ImagebuildError } from '../core/errors.ts'
import type { Architecture } from './context.ts'

/** What to build a system from: a suite of a distribution and its packages. */
export interface BootstrapRecipe {
  distribution: 'debian' | 'ubuntu'
  /** code name: trixie, bookworm, noble, jammy */
  suite: string
  arch: Architecture
  /** archive to download from while building; the guest's own sources always name the public one */
  mirror?: string
  /** archive of the security updates, where it is another one */
  securityMirror?: string
  /** packages on top of the base */
  packages?: readonly string[]
}

/**
 * Raise it whenever the same packages would make a different system: files that are added, commands that
 * are run, the layout of the disk. It is part of every bootstrap's identity.
 */
export const RECIPE_VERSION = 4

interface Suite {
  distribution: 'debian' | 'ubuntu'
  release: string
  /** packages that this suite needs beyond all others', and those that only a disk of it does */
  packages?: readonly string[]
  disk?: readonly string[]
}

const SUITES: Readonly<Record<string, Suite>> = {
  bookworm: { distribution: 'debian', release: '12', disk: ['systemd-resolved'] },
  trixie: {
    ...{ distribution: 'debian', release: '13', disk: ['systemd-resolved'] },
    // Its sysctl.d is a package of its own: protected links, and that users may ping.
    packages: ['linux-sysctl-defaults'],
  },
  jammy: { distribution: 'ubuntu', release: '22.04' },
  noble: { distribution: 'ubuntu', release: '24.04', disk: ['systemd-resolved'] },
  resolute: { distribution: 'ubuntu', release: '26.04', disk: ['systemd-resolved'] },
}

/** What every system has: init, SSH, and what an administrator reaches for. */
const BASE_PACKAGES = [
  'ca-certificates',
  'curl',
  'dbus',
  'iproute2',
  'iputils-ping',
  'less',
  'libpam-systemd',
  'netbase',
  'openssh-server',
  'procps',
  'sudo',
  'systemd-sysv',
  'vim-tiny',
  'zstd',
] as const

/**
 * What a container needs beyond that: whatever reads the network configuration that Proxmox writes into it, which
 * is /etc/network/interfaces for Debian, and systemd-networkd's files for Ubuntu. (networkd waits for udev where
 * /sys can be written, as it can be in an unprivileged container.) Nothing else that would want to have eth0 or
 * resolv.conf. cloud-init is no part of it: where fragments are to be applied, it is one of the recipe's own
 * packages.
 */
const ROOTFS_PACKAGES: Record<BootstrapRecipe['distribution'], readonly string[]> = {
  debian: ['ifupdown', 'isc-dhcp-client'],
  ubuntu: ['udev'],
}

/** What a virtual machine needs beyond it, except kernel and boot loader. */
const DISK_PACKAGES = [
  'cloud-guest-utils',
  'cloud-init',
  'e2fsprogs',
  'fdisk',
  'initramfs-tools',
  'kmod',
  'netplan.io',
  'qemu-guest-agent',
  'systemd-timesyncd',
  'udev',
] as const

/** Kernel and boot loader. grub-cloud is Debian's own arrangement for images that boot with BIOS and UEFI. */
const BOOT_PACKAGES: Record<BootstrapRecipe['distribution'], Record<Architecture, readonly string[]>> = {
  debian: {
    amd64: ['linux-image-cloud-amd64', 'grub-cloud-amd64', 'grub-efi-amd64-signed', 'shim-signed'],
    arm64: ['linux-image-cloud-arm64', 'grub-efi-arm64', 'grub-efi-arm64-signed', 'shim-signed'],
  },
  ubuntu: {
    amd64: ['linux-image-virtual', 'grub-pc', 'grub-efi-amd64-bin', 'grub-efi-amd64-signed', 'shim-signed'],
    arm64: ['linux-image-virtual', 'grub-efi-arm64', 'grub-efi-arm64-signed', 'shim-signed'],
  },
}

/** What is built: the disk of a virtual machine, or the root file system of a container. */
export type BootstrapKind = 'disk' | 'rootfs'

/** All suites that can be bootstrapped, as `debian/12`-like release names. */
export function bootstrapSuites(): { release: string; distribution: string; suite: string }[] {
  return Object.entries(SUITES).map(([suite, { distribution, release }]) => ({
    release: `${distribution}/${release}`,
    distribution,
    suite,
  }))
}

/**
 * The recipe that stands in for a catalog release whose image cannot be had: `debian/12` → bookworm.
 * Undefined for a release that has none.
 * @param packages on top of the base: cloud-init, for a container that has fragments
 */
export function recipeFor(
  release: string,
  arch: Architecture,
  packages: readonly string[] = [],
): BootstrapRecipe | undefined {
  const wanted = release.replace(/-minimal$/, '')
  const found = bootstrapSuites().find((suite) => suite.release === wanted)
  return (
    found && {
      distribution: found.distribution as 'debian' | 'ubuntu',
      suite: found.suite,
      arch,
      ...(packages.length > 0 && { packages }),
    }
  )
}

/**
 * Every package that is asked for by name, sorted; dependencies come with them.
 * @throws ImagebuildError `definition_invalid` for a suite that is not known here
 */
export function recipePackages(recipe: BootstrapRecipe, kind: BootstrapKind): string[] {
  const suite = SUITES[recipe.suite]
  if (suite?.distribution !== recipe.distribution) {
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: `there is no bootstrap recipe for ${recipe.distribution} ${recipe.suite}`,
      next: `use one of ${bootstrapSuites()
        .map((known) => `${known.distribution} ${known.suite}`)
        .join(', ')}`,
    })
  }
  return [
    ...new Set([
      ...BASE_PACKAGES,
      ...(kind === 'disk'
        ? [...DISK_PACKAGES, ...(suite.disk ?? []), ...BOOT_PACKAGES[recipe.distribution][recipe.arch]]
        : ROOTFS_PACKAGES[recipe.distribution]),
      ...(suite.packages ?? []),
      ...(recipe.packages ?? []),
    ]),
  ].sort()
}

/**
 * What goes into a definition's digest: suite, architecture, package list and recipe version. The versions
 * of the packages and the mirror are not in it: a definition that did not change is not rebuilt because the
 * archive did (that is what `--force` and the scheduled rebuild are for).
 */
export function bootstrapIdentity(recipe: BootstrapRecipe, kind: BootstrapKind = 'disk'): string {
  const facts = [
    'bootstrap',
    RECIPE_VERSION,
    kind,
    recipe.distribution,
    recipe.suite,
    recipe.arch,
    recipePackages(recipe, kind),
  ]
  return `sha256:${createHash('sha256').update(JSON.stringify(facts)).digest('hex')}`
}
