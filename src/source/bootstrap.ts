import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { asImagebuildError } from '../core/errors.ts'
import { type DiskIdentity, makeBootableDisk } from './bootable-disk.ts'
import { diskFiles, systemFiles } from './bootstrap-files.ts'
import { type BootstrapKind, type BootstrapRecipe, bootstrapIdentity } from './bootstrap-recipe.ts'
import { CannotBringAlong, makeSystemTree } from './bootstrap-tree.ts'
import { findSystem, keepSystem } from './bootstrapped-systems.ts'
import { adoptFile } from './cache.ts'
import { containerFiles } from './container-files.ts'
import type { CachedFile, SourceContext } from './context.ts'
import { demandRoom, outOfRoom } from './disk-room.ts'
import { runTool } from './tool.ts'
import { withWorkFolder } from './work-folder.ts'

/** Virtual size of a bootstrapped disk, in MiB; the root file system grows with the disk at first boot. */
export const DISK_MIB = 2048

/**
 * Bytes that a bootstrap writes in the cache at its worst moment, none of its packages being kept there yet. Measured with Debian 13
 * (amd64, November 2026) on an ext4 of its own, which was asked five times a second. A disk: 1,464 MB while it is converted, for
 * the tree, the raw disk and the qcow2 of 481 MB, and 122 MB of packages that are kept. A root file system: 508 MB when its
 * packages are installed, for the tree, its package lists and twice 56 MB of packages. What is installed for the layers
 * (`extra`) comes on top: how much is not known before it is downloaded.
 */
const ROOM: Readonly<Record<BootstrapKind, number>> = { disk: 1.59e9, rootfs: 0.51e9 }

export interface BootstrapOptions {
  /** build again although the cache has it: for newer packages */
  refresh?: boolean
  /**
   * Packages that the system is to bring along, as if a guest of it had installed them: what it takes seconds to install here
   * takes minutes in an emulated machine. They are no part of the recipe's identity.
   */
  extra?: readonly string[]
  /** of these, how many a system that is in the cache may lack; any number unless said */
  mayLack?: number
}

/** What a recipe became. */
export interface BootstrappedSystem extends CachedFile {
  /** those of `extra` that are installed in it */
  brought: readonly string[]
}

/**
 * A bootable disk (qcow2) from a distribution's packages: BIOS and UEFI, cloud-init reading NoCloud seeds,
 * guest agent, serial console, a root file system that grows. What the cache has is given back at once.
 */
export async function bootstrapDisk(
  recipe: BootstrapRecipe,
  ctx: SourceContext,
  options: BootstrapOptions = {},
): Promise<BootstrappedSystem> {
  return bootstrapped(recipe, 'disk', ctx, options, async (work, extra) => {
    const identity = diskIdentity(bootstrapIdentity(recipe, 'disk'))
    const tree = join(work, 'root')
    const raw = join(work, 'disk.raw')
    const disk = join(work, 'disk.qcow2')
    const files = [...systemFiles(recipe), ...diskFiles(identity)]
    await makeSystemTree({ recipe, kind: 'disk', files, extra, root: tree }, ctx)
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
): Promise<BootstrappedSystem> {
  return bootstrapped(recipe, 'rootfs', ctx, options, async (work, extra) => {
    const tree = join(work, 'root')
    const archive = join(work, 'rootfs.tar.zst')
    const files = [...systemFiles(recipe), ...containerFiles(recipe)]
    await makeSystemTree({ recipe, kind: 'rootfs', files, extra, root: tree }, ctx)
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
  { refresh = false, extra = [], mayLack }: BootstrapOptions,
  build: (work: string, extra: readonly string[]) => Promise<string>,
): Promise<BootstrappedSystem> {
  const identity = bootstrapIdentity(recipe, kind)
  const known = refresh ? undefined : await findSystem(ctx, identity, extra, mayLack)
  if (known !== undefined) return known
  const make = (packages: readonly string[]) =>
    withWorkFolder(ctx.cacheDir, 'bootstrap', async (work) => {
      const extension = kind === 'disk' ? 'qcow2' : 'tar.zst'
      const need = { purpose: `bootstrapping ${recipe.distribution} ${recipe.suite}`, needed: ROOM[kind] }
      await demandRoom(work, need.needed, need.purpose)
      try {
        const file = await adoptFile(ctx, await build(work, packages), extension)
        return await keepSystem(ctx, identity, file, { brought: packages, isFresh: refresh })
      } catch (error) {
        ctx.signal.throwIfAborted()
        throw await outOfRoom(error, work, need)
      }
    })
  try {
    return await make(extra)
  } catch (error) {
    if (!(error instanceof CannotBringAlong)) throw error
    // Some packages want a system that runs.
    const reason = asImagebuildError(error.cause).output.at(-1) ?? error.message
    ctx.onWarning?.(
      `${extra.join(', ')} cannot be installed while bootstrapping (${reason}); the guest does it`,
    )
    return await make([])
  }
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
