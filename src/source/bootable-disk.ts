import { chmod, cp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ImagebuildError } from '../core/errors.ts'
import { makeFolder } from '../core/make-folder.ts'
import { efiGrubConfig, firstGrubConfig } from './bootstrap-files.ts'
import type { Architecture, SourceContext } from './context.ts'
import { biosLoader } from './grub-bios.ts'
import { runTool } from './tool.ts'

/**
 * A disk that boots with BIOS and UEFI, made from a folder with nothing but files: no loop device, no mount,
 * no kernel support for any of the file systems. Partition numbers and order are those of Debian's own cloud
 * images: the root file system is partition 1 but lies last, so that growpart can enlarge it.
 */
const SECTOR = 512
const MIB = 1024 * 1024
/** in MiB from the start of the disk */
const LAYOUT = {
  biosBoot: { start: 1, size: 3 },
  esp: { start: 4, size: 124 },
  root: { start: 128 },
} as const
/** Space for GPT's second copy at the end of the disk, in MiB. */
const TAIL_MIB = 1

/** Partition types of the Discoverable Partitions Specification. */
const TYPE = {
  biosBoot: '21686148-6449-6E6F-744E-656564454649',
  esp: 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B',
  root: {
    amd64: '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709',
    arm64: 'B921B045-1DF0-41C3-AF44-4C6F280D3FAE',
  },
} as const

/**
 * Written out, so that the same file system is made on each host: newer releases of mke2fs turn on features
 * that GRUB 2.06 cannot read.
 */
const EXT4_FEATURES = [
  'none',
  'has_journal',
  'ext_attr',
  'resize_inode',
  'dir_index',
  'filetype',
  'extent',
  '64bit',
  'flex_bg',
  'sparse_super',
  'large_file',
  'huge_file',
  'dir_nlink',
  'extra_isize',
  'metadata_csum',
]

/** What GRUB's BIOS core needs to find and read its configuration and the kernel. */
const BIOS_MODULES = [
  'biosdisk',
  'part_gpt',
  'ext2',
  'normal',
  'configfile',
  'linux',
  'search',
  'search_fs_uuid',
  'serial',
  'terminal',
  'minicmd',
  'gzio',
]

export interface DiskIdentity {
  /** of the GPT */
  disk: string
  /** of the root file system */
  root: string
  /** of the ESP's FAT: `1234-ABCD` */
  esp: string
}

/**
 * @param tree root file system with kernel, GRUB and, on amd64, shim installed; boot files are added to it
 * @param disk file to make: a raw, sparse image
 * @param sizeMib of the whole disk
 */
export async function makeBootableDisk(
  {
    tree,
    disk,
    sizeMib,
    arch,
    identity,
  }: { tree: string; disk: string; sizeMib: number; arch: Architecture; identity: DiskIdentity },
  ctx: SourceContext,
): Promise<void> {
  await addBootFiles(tree, arch, identity, ctx)
  const core = arch === 'amd64' ? await biosCore(tree, ctx) : undefined

  const file = await open(disk, 'wx')
  try {
    await file.truncate(sizeMib * MIB)
  } finally {
    await file.close()
  }
  await runTool(
    'sfdisk',
    ['--quiet', disk],
    { purpose: 'writing the partition table', input: partitionTable(sizeMib, arch, identity) },
    ctx,
  )
  await makeEsp(tree, disk, arch, identity, ctx)
  await runTool(
    'mke2fs',
    [
      '-q',
      '-F',
      '-t',
      'ext4',
      '-b',
      '4096',
      '-I',
      '256',
      '-m',
      '1',
      '-O',
      EXT4_FEATURES.join(','),
      '-L',
      'root',
      '-U',
      identity.root,
      '-E',
      `offset=${LAYOUT.root.start * MIB},root_owner=0:0,hash_seed=${identity.disk},lazy_itable_init=0`,
      '-d',
      tree,
      disk,
      `${(sizeMib - LAYOUT.root.start - TAIL_MIB) * 1024}k`,
    ],
    { purpose: 'making the root file system' },
    ctx,
  )
  if (core) await writeBiosLoader(disk, await readFile(join(tree, 'usr/lib/grub/i386-pc/boot.img')), core)
}

function partitionTable(sizeMib: number, arch: Architecture, identity: DiskIdentity): string {
  const at = (mib: number) => (mib * MIB) / SECTOR
  return [
    'label: gpt',
    `label-id: ${identity.disk}`,
    ...(arch === 'amd64'
      ? [`14 : start=${at(LAYOUT.biosBoot.start)}, size=${at(LAYOUT.biosBoot.size)}, type=${TYPE.biosBoot}`]
      : []),
    `15 : start=${at(LAYOUT.esp.start)}, size=${at(LAYOUT.esp.size)}, type=${TYPE.esp}`,
    `1 : start=${at(LAYOUT.root.start)}, size=${at(sizeMib - LAYOUT.root.start - TAIL_MIB)}, type=${TYPE.root[arch]}`,
    '',
  ].join('\n')
}

/** grub.cfg, and the modules that it may load, where grub-install would have put them. */
async function addBootFiles(
  tree: string,
  arch: Architecture,
  identity: DiskIdentity,
  ctx: SourceContext,
): Promise<void> {
  const kernels = (await readdir(join(tree, 'boot'))).filter((name) => name.startsWith('vmlinuz-'))
  const kernel = kernels.sort().at(-1)
  if (kernel === undefined) {
    throw new ImagebuildError({
      code: 'build_failed',
      what: 'the bootstrapped system has no kernel in /boot',
      next: 'leave the kernel package of the recipe in place',
    })
  }
  const grub = join(tree, 'boot/grub')
  await makeFolder(grub)
  await writeFile(join(grub, 'grub.cfg'), firstGrubConfig(identity.root, kernel.slice('vmlinuz-'.length)), {
    mode: 0o600,
  })
  await makeFolder(join(tree, 'boot/efi'))
  for (const platform of arch === 'amd64' ? ['i386-pc', 'x86_64-efi'] : ['arm64-efi']) {
    await cp(join(tree, 'usr/lib/grub', platform), join(grub, platform), {
      recursive: true,
      filter: (source) => !/\.(image|exec|img)$/.test(source),
    })
  }
  // Debian's grub-cloud package acts on later updates only where this file says that the disk is such an image.
  if (arch === 'amd64') {
    const marker = join(tree, 'etc/grub.d/enable_cloud')
    await writeFile(marker, '')
    await chmod(marker, 0o644)
  }
  ctx.signal.throwIfAborted()
}

async function biosCore(tree: string, ctx: SourceContext): Promise<Buffer> {
  const inside = '/boot/grub/i386-pc/core.img'
  await runTool(
    'chroot',
    [
      tree,
      'grub-mkimage',
      '-O',
      'i386-pc',
      '-o',
      inside,
      // No device before the comma: the one that the BIOS booted from.
      '-p',
      '(,gpt1)/boot/grub',
      ...BIOS_MODULES,
    ],
    { purpose: "making GRUB's BIOS core image" },
    ctx,
  )
  return readFile(join(tree, inside))
}

/** GRUB's first sector around the partition table, and its core in the BIOS boot partition. */
async function writeBiosLoader(disk: string, bootImage: Buffer, coreImage: Buffer): Promise<void> {
  const start = (LAYOUT.biosBoot.start * MIB) / SECTOR
  const { bootCode, core } = biosLoader(bootImage, coreImage, start)
  if (core.length > LAYOUT.biosBoot.size * MIB) {
    throw new ImagebuildError({
      code: 'build_failed',
      what: "GRUB's core image does not fit into the BIOS boot partition",
      why: `it has ${core.length} bytes`,
    })
  }
  const file = await open(disk, 'r+')
  try {
    await file.write(bootCode, 0, bootCode.length, 0)
    await file.write(core, 0, core.length, start * SECTOR)
  } finally {
    await file.close()
  }
}

/** The ESP: the distribution's signed shim and GRUB, at the vendor's path and at the one for removable media. */
async function makeEsp(
  tree: string,
  disk: string,
  arch: Architecture,
  identity: DiskIdentity,
  ctx: SourceContext,
): Promise<void> {
  const offset = LAYOUT.esp.start * MIB
  await runTool(
    'mkfs.vfat',
    [
      // One sector per cluster: with larger ones it would have too few of them to be FAT32.
      '-F',
      '32',
      '-s',
      '1',
      '-n',
      'ESP',
      '-i',
      identity.esp.replace('-', ''),
      '--offset',
      String(offset / SECTOR),
      disk,
      String(LAYOUT.esp.size * 1024),
    ],
    { purpose: 'making the EFI system partition' },
    ctx,
  )
  const efi = `${tree}.efi`
  try {
    await layOutEfi(tree, efi, arch, identity)
    await runTool(
      'mcopy',
      ['-s', '-i', `${disk}@@${offset}`, join(efi, 'EFI'), '::'],
      { purpose: 'filling the EFI system partition', environment: { MTOOLS_SKIP_CHECK: '1' } },
      ctx,
    )
  } finally {
    await rm(efi, { recursive: true, force: true })
  }
}

async function layOutEfi(
  tree: string,
  efi: string,
  arch: Architecture,
  identity: DiskIdentity,
): Promise<void> {
  const cpu = arch === 'amd64' ? 'x64' : 'aa64'
  const platform = arch === 'amd64' ? 'x86_64-efi' : 'arm64-efi'
  const shim = join(tree, `usr/lib/shim/shim${cpu}.efi.signed`)
  const grub = join(tree, `usr/lib/grub/${platform}-signed/grub${cpu}.efi.signed`)
  const mokManager = join(tree, `usr/lib/shim/mm${cpu}.efi.signed`)
  const vendor = /^ID=(\w+)/m.exec(await readFile(join(tree, 'etc/os-release'), 'utf8'))?.[1] ?? 'debian'
  const config = efiGrubConfig(identity.root)
  for (const [folder, loader] of [
    ['BOOT', `BOOT${cpu.toUpperCase()}.EFI`],
    [vendor, `shim${cpu}.efi`],
  ] as const) {
    const target = join(efi, 'EFI', folder)
    await makeFolder(target)
    await cp(shim, join(target, loader), { dereference: true })
    await cp(grub, join(target, `grub${cpu}.efi`), { dereference: true })
    await cp(mokManager, join(target, `mm${cpu}.efi`), { dereference: true })
    await writeFile(join(target, 'grub.cfg'), config)
  }
}
