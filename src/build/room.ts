import { formatBytes } from '../core/bytes.ts'
import { ImagebuildError } from '../core/errors.ts'
import type { GuestKind } from '../pve/guest-ref.ts'

/**
 * Whether a build fits on the storage for disks: pure. Proxmox does not ask that itself. Where a storage gives a disk its
 * blocks as they are written, a guest is created also on a full one, and dies when it writes.
 */

/** Of the template's disk, in bytes. */
export interface DiskSizes {
  /** what the guest sees, after growing */
  whole: number
  /** what its source image really takes, at least; 0 where nobody knows */
  least: number
}

export interface RoomAsked {
  image: string
  kind: GuestKind
  node: string
  /** `avail` in bytes, of a storage that knows its size */
  storage: { id: string; type: string; avail: number }
  disk: DiskSizes
  /** clones are examined */
  verified: boolean
  /** the template gets a fixed VMID; `replaces`: bytes of the disk that is there now */
  fixed?: { vmid: number; replaces: number }
}

/** Bytes that the disk of one of the examined clones is made larger by. */
export const CLONE_GROWTH = 2 ** 30

/** These give a disk all of its blocks when it is created; whether a ZFS pool does is its own setting. */
const THICK = ['lvm']

/** Directories, in whatever file system. */
const OF_FILES = ['dir', 'nfs', 'cifs', 'cephfs', 'glusterfs']

/** Of types that Proxmox does not have itself, the better is assumed. */
function sharesDisks(type: string, kind: GuestKind): boolean {
  if (THICK.includes(type)) return false
  return kind === 'vm' || !OF_FILES.includes(type)
}

interface Part {
  bytes: number
  what: string
}

/**
 * @returns what a person should know all the same; undefined where there is room for all of it
 * @throws ImagebuildError `busy` where it is certain not to fit
 */
export function judgeRoom(asked: RoomAsked): string | undefined {
  const { image, node, storage, disk } = asked
  const { id, avail } = storage
  const parts = partsOf(asked)
  const needed = parts.reduce((sum, { bytes }) => sum + bytes, 0)
  if (needed > avail || avail <= 0) throw noRoom(asked, parts, needed)
  if (disk.whole <= avail || THICK.includes(storage.type)) return undefined
  const may = `storage ${id} on ${node} has ${formatBytes(avail)} free, and the disk of ${image} may grow to ${formatBytes(disk.whole)}`
  return storage.type === 'zfspool'
    ? `${may}: where the pool’s storage is not set to thin provision, ZFS reserves all of it, and creating the guest fails`
    : `${may}: that is allowed, but guests break when the storage is full`
}

/** What is there at the same time, at the worst moment. */
function partsOf({ kind, storage, disk, verified, fixed }: RoomAsked): Part[] {
  const isThick = THICK.includes(storage.type)
  const one = isThick ? disk.whole : disk.least
  const template = isThick
    ? 'for the template: the whole size of its disk, which this storage gives out at once'
    : `for the template: what its source image really takes; its disk may grow to ${formatBytes(disk.whole)}`
  const clones: Part[] =
    verified && !sharesDisks(storage.type, kind)
      ? [
          {
            bytes: 2 * one + (isThick && kind === 'vm' ? CLONE_GROWTH : 0),
            what: `for two clones that verify it: on a storage of type ${storage.type} they are whole copies`,
          },
        ]
      : []
  // What has the VMID is copied before it goes; then the new one is, before what it was copied from goes.
  const swap: Part[] =
    fixed === undefined
      ? []
      : [
          {
            bytes: isThick ? Math.max(fixed.replaces, one) : one,
            what: `for a copy while VMID ${fixed.vmid} is replaced`,
          },
        ]
  const bytes = (more: readonly Part[]) => more[0]?.bytes ?? 0
  // The clones are gone when the swap begins.
  return [{ bytes: one, what: template }, ...(bytes(clones) >= bytes(swap) ? clones : swap)]
}

function noRoom(
  { image, node, storage }: RoomAsked,
  parts: readonly Part[],
  needed: number,
): ImagebuildError {
  const { id, avail } = storage
  const known = parts.filter(({ bytes }) => bytes > 0)
  return new ImagebuildError({
    code: 'busy',
    what: `storage ${id} on ${node} has no room for building ${image}`,
    why:
      known.length === 0
        ? 'it is full'
        : [
            `${formatBytes(needed)} are needed at least, and ${formatBytes(Math.max(0, avail))} are there:`,
            ...known.map(({ bytes, what }) => `${formatBytes(bytes)} ${what}`),
          ].join('\n'),
    next: `make room: \`imagebuild prune\` removes what is left over, and old versions where \`template.keep\` is lower; or name another storage for \`disks\` in imagebuild.yaml`,
  })
}
