import type { VmSpec } from '../definition/spec.ts'
import type { CreateParameters } from '../pve/guest.ts'
import type { Place } from '../pve/place.ts'

/** The slots that a build uses. One disk on a virtio-scsi controller of its own, as Proxmox recommends. */
export const DISK = 'scsi0'
/** The seed while building. Not an IDE drive: some cloud kernels have no driver for one. */
export const SEED = 'scsi1'
/**
 * The consumer's cloud-init drive: where Proxmox's documentation and most tools expect it. Not on q35, where that is
 * a SATA port, for which Debian's cloud kernel has no driver; and not with OVMF, which leaves IDE ports asleep that
 * are not in the boot order, so that Linux passes them over. There it goes where the seed was.
 */
function cloudInitDrive({ hardware }: VmSpec): string {
  return hardware.machine?.includes('q35') || hardware.bios === 'ovmf' ? 'scsi1' : 'ide2'
}

/** `net0`. */
export function machineCard(place: Place, mac?: string): string {
  const card = mac === undefined ? 'virtio' : `virtio=${mac}`
  return `${card},bridge=${place.bridge}${place.vlan === undefined ? '' : `,tag=${place.vlan}`}`
}

/** Proxmox's parameters for the hardware that a template has; what only a build needs comes on top. */
function hardwareParameters(image: VmSpec): CreateParameters {
  const { hardware } = image
  return {
    cores: hardware.cores,
    sockets: hardware.sockets,
    memory: String(hardware.memory),
    cpu: hardware.cpu,
    bios: hardware.bios,
    ...(hardware.machine !== undefined && { machine: hardware.machine }),
    ostype: hardware.ostype,
    scsihw: 'virtio-scsi-single',
    serial0: 'socket',
    vga: hardware.vga,
    agent: 'enabled=1',
    boot: `order=${DISK}`,
  }
}

export interface BuildMachine {
  image: VmSpec
  place: Place
  mac: string
  seedVolid: string
  /** missing when the guest is a clone of a parent's template, which brings its disk along */
  sourceVolid?: string
}

/** While it is being built. */
export function buildParameters({
  image,
  place,
  mac,
  seedVolid,
  sourceVolid,
}: BuildMachine): CreateParameters {
  const { efidisk } = image.hardware
  const efi = `${place.storages.disks}:1,efitype=${efidisk?.efitype ?? '4m'},pre-enrolled-keys=${efidisk?.['pre-enrolled-keys'] ? 1 : 0}`
  return {
    ...hardwareParameters(image),
    ...(image.build.cores !== undefined && { cores: image.build.cores, sockets: 1 }),
    ...(image.build.memory !== undefined && { memory: String(image.build.memory) }),
    ...(sourceVolid !== undefined && {
      [DISK]: `${place.storages.disks}:0,import-from=${sourceVolid},discard=on,iothread=1`,
      ...(image.hardware.bios === 'ovmf' && { efidisk0: efi }),
      ...(place.pool !== undefined && { pool: place.pool }),
    }),
    [SEED]: `${seedVolid},media=cdrom`,
    net0: machineCard(place, mac),
  }
}

/**
 * What consumers get: the definition's hardware, a cloud-init drive of their own, and a network card without our
 * MAC (Proxmox gives every clone a new one anyway; ours belongs to builds).
 */
export function templateParameters(image: VmSpec, place: Place): CreateParameters {
  return {
    ...hardwareParameters(image),
    net0: machineCard(place),
    [cloudInitDrive(image)]: `${place.storages.disks}:cloudinit`,
    ipconfig0: 'ip=dhcp',
    // On by default: each clone would upgrade all packages on its first boot.
    ciupgrade: false,
  }
}
