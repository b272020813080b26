import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { type DiskIdentity, makeBootableDisk } from './bootable-disk.ts'
import { diskFiles, systemFiles } from './bootstrap-files.ts'
import { type BootstrapKind, type BootstrapRecipe, bootstrapIdentity } from './bootstrap-recipe.ts'
import { makeSystemTree } from './bootstrap-tree.ts'
import { adoptFile, readPointer, writePointer } from './cache.ts'
import { containerFiles } from './container-files.ts'
import type { CachedFile, SourceContext } from './context.ts'
import { demandRoom, outOfRoom } from './disk-room.ts'
import { runTool } from './tool.ts'
import { withWorkFolder } from './work-folder.ts'

/** Virtual size of a bootstrapped disk, in MiB; the root file system grows with the disk at first boot. */
export const DISK_MIB = 2048

/**
 * Bytes that a bootstrap writes in the cache at its worst moment, none of its packages being kept there yet. Debian 13: a
 * disk has 620 MB, as a tree, as a raw disk and as qcow2, and 200 MB of packages; a root file system was seen to take 400 MB
 * in all (du, every two seconds).
 */
const ROOM: Readonly<Record<BootstrapKind, number>> = { disk: 2.1e9, rootfs: 0.5e9 }

export interface BootstrapOptions {
  /** build again although the cache has it: for newer packages */
  refresh?: boolean
}

/**
 * A bootable disk (qcow2) from a distribution's packages: BIOS and UEFI, cloud-init reading NoCloud seeds,
 * guest agent, serial console, a root file system that grows. What the cache has is given back at once.
 */
export async function bootstrapDisk(
  recipe: BootstrapRecipe,
  ctx: SourceContext,
  options: BootstrapOptions = {},
): Promise<CachedFile> {
  return bootstrapped(recipe, 'disk', ctx, options, async (work) => {
    const identity = diskIdentity(bootstrapIdentity(recipe, 'disk'))
    const tree = join(work, 'root')
    const raw = join(work, 'disk.raw')
    const disk = join(work, 'disk.qcow2')
    await makeSystemTree(recipe, 'disk', [...systemFiles(recipe), ...diskFiles(identity)], tree, ctx)
    await makeBootableDisk({ tree, disk: raw, sizeMib: DISK_MIB, arch: recipe.arch, identity }, ctx)
    await runTool(
      'qemu-img',
      ['convert', '-f', 'raw', '-O', 'qcow2', raw, disk],
      { purpose: 'converting the disk to qcow2' },
      ctx,
    )
    return disk
  })
}

/**
 * The same system as an archive (tar.zst) for a container: without kernel, boot loader, guest agent
 * and cloud-init. Its network is configured by Proxmox: what that writes is what it reads.
 */
export async function bootstrapRootfs(
  recipe: BootstrapRecipe,
  ctx: SourceContext,
  options: BootstrapOptions = {},
): Promise<CachedFile> {
  return bootstrapped(recipe, 'rootfs', ctx, options, async (work) => {
    const tree = join(work, 'root')
    const archive = join(work, 'rootfs.tar.zst')
    await makeSystemTree(recipe, 'rootfs', [...systemFiles(recipe), ...containerFiles(recipe)], tree, ctx)
    await runTool(
      'tar',
      [
        '--create',
        '--file',
        archive,
        '--use-compress-program=zstd -T0 -3',
        '--numeric-owner',
        '--xattrs',
        '--xattrs-include=*',
        '--sort=name',
        '--directory',
        tree,
        '.',
      ],
      { purpose: 'packing the root file system' },
      ctx,
    )
    return archive
  })
}

async function bootstrapped(
  recipe: BootstrapRecipe,
  kind: BootstrapKind,
  ctx: SourceContext,
  { refresh = false }: BootstrapOptions,
  build: (work: string) => Promise<string>,
): Promise<CachedFile> {
  const identity = bootstrapIdentity(recipe, kind)
  const known = refresh ? undefined : await readPointer(ctx, identity)
  if (known) return known
  return await withWorkFolder(ctx.cacheDir, 'bootstrap', async (work) => {
    const extension = kind === 'disk' ? 'qcow2' : 'tar.zst'
    const need = { purpose: `bootstrapping ${recipe.distribution} ${recipe.suite}`, needed: ROOM[kind] }
    await demandRoom(work, need.needed, need.purpose)
    try {
      const file = await adoptFile(ctx, await build(work), extension)
      await writePointer(ctx.cacheDir, identity, file)
      return file
    } catch (error) {
      ctx.signal.throwIfAborted()
      throw await outOfRoom(error, work, need)
    }
  })
}

/** UUIDs that follow from the identity: one recipe, one disk, whoever builds it. */
export function diskIdentity(identity: string): DiskIdentity {
  const uuid = (role: string) => {
    const hex = createHash('sha256').update(`${identity} ${role}`).digest('hex')
    // Version 8 (custom) and the RFC 9562 variant.
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
  }
  const esp = uuid('esp').slice(0, 8).toUpperCase()
  return { disk: uuid('disk'), root: uuid('root'), esp: `${esp.slice(0, 4)}-${esp.slice(4)}` }
}
