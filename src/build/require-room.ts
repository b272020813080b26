import type { GuestConfig } from '../pve/answers.ts'
import { configIfThere } from '../pve/destroy.ts'
import { sizeIn } from '../pve/disk-size.ts'
import { PveError } from '../pve/errors.ts'
import { listFiles, sizeOfStored } from '../pve/volumes.ts'
import { DISK_MIB } from '../source/bootstrap.ts'
import { fixedVmidOf } from './at-fixed-vmid.ts'
import type { Build } from './context.ts'
import { DISK } from './machine.ts'
import type { PlacedSource } from './placement.ts'
import { type DiskSizes, judgeRoom } from './room.ts'
import type { SourceDecision } from './source.ts'
import { storageStatus } from './storages.ts'

/** Of a qcow2 file: one that has (nearly) all of its clusters may have them for zeros, which are not copied. */
const ALL_ALLOCATED = 0.95

/**
 * Asks for the room on the storage for disks: before anything is fetched, by what is known then, and once more when the
 * source lies on the node, which knows its size.
 * @throws ImagebuildError `busy` where the build is certain not to fit
 */
export async function requireRoom(
  build: Build,
  decision: SourceDecision,
  source?: PlacedSource,
): Promise<void> {
  const { pve, place, image, options, emit } = build
  const { node } = place
  const id = place.storages.disks
  const { type, total, avail } = (await storageStatus(pve, node, id)) ?? {}
  // A plugin that cannot tell its size says 0 for all of it.
  if (type === undefined || avail === undefined || !total) return
  const fixed = fixedVmidOf(build)
  const message = judgeRoom({
    ...{ image: image.name, kind: image.kind, node, storage: { id, type, avail } },
    disk: await diskSizes(build, decision, source),
    verified: options.verify !== 'off',
    ...(fixed !== undefined && { fixed: { vmid: fixed, replaces: await sizeAt(build, fixed) } }),
  })
  if (message !== undefined && source !== undefined) emit({ type: 'warning', image: image.name, message })
}

async function diskSizes(
  build: Build,
  { from }: SourceDecision,
  source: PlacedSource | undefined,
): Promise<DiskSizes> {
  const { image } = build
  if (image.kind === 'lxc') {
    const least = source?.kind === 'archive' ? await archiveSize(build, source.volid) : 0
    return { whole: image.hardware.rootfs, least }
  }
  const wanted = image.hardware.disk ?? 0
  if (source?.kind === 'volume') {
    const { size, least } = await volumeSize(build, source.volid)
    return { whole: Math.max(size, wanted), least }
  }
  if (from.kind === 'bootstrap') return { whole: Math.max(DISK_MIB * 2 ** 20, wanted), least: 0 }
  const parent = from.kind === 'template' ? await configIfThere(build.pve, from.template) : undefined
  return { whole: Math.max(diskOf(parent), wanted), least: 0 }
}

/** A packed archive is smaller than its tree. */
async function archiveSize({ pve, place }: Build, volid: string): Promise<number> {
  if (volid.endsWith('.tar')) return 0
  const file = (await listFiles(pve, place, 'vztmpl')).find((one) => one.volid === volid)
  return (file && (await sizeOfStored(pve, place, file))) ?? 0
}

/** Of a disk image: what a guest sees, and what of it has been written. */
async function volumeSize({ pve, place }: Build, volid: string): Promise<{ size: number; least: number }> {
  const storage = pve.api.nodes.$(place.node).storage.$(place.storages.images)
  try {
    const { size, used, format } = await storage.content.$(volid).$get()
    // A raw file that was uploaded has blocks for its zeros, too.
    const isTold = format === 'qcow2' && used < ALL_ALLOCATED * size
    return { size, least: isTold ? used : 0 }
  } catch (error) {
    // A guess less: the guest is created all the same.
    if (error instanceof PveError && error.delivery === 'answered') return { size: 0, least: 0 }
    throw error
  }
}

/** Bytes of the disk of what has a VMID now. */
async function sizeAt({ pve, place, image }: Build, vmid: number): Promise<number> {
  return diskOf(await configIfThere(pve, { kind: image.kind, node: place.node, vmid }))
}

function diskOf(config: GuestConfig | undefined): number {
  return sizeIn(config?.[DISK] ?? config?.rootfs) ?? 0
}
