/**
 * Puts GRUB's BIOS loader onto a disk image. It is what grub-bios-setup does for a GPT disk with a BIOS
 * boot partition, minus all probing of devices: a disk image in a plain file is no device.
 *
 * Offsets are those of GRUB's include/grub/i386/pc/boot.h and boot/i386/pc/diskboot.S: they have been part
 * of the interface between GRUB's stages since GRUB 2.00.
 */
const SECTOR = 512
/** boot.img: where the first sector of core.img lies, 8 bytes little endian */
const KERNEL_SECTOR = 0x5c
/** boot.img: a jump that skips the check for floppies; two NOPs on anything but a floppy */
const DRIVE_CHECK = 0x66
/** boot code ends where the disk signature and the (protective) partition table begin */
const BOOT_CODE_END = 0x1b8
/** first sector of core.img: the block list entry of what follows: sector (8), length (2), segment (2) */
const BLOCK_LIST = SECTOR - 12

export interface BiosLoader {
  /** the first 440 bytes of the disk; the partition table after them stays as it is */
  bootCode: Buffer
  /** the content of the BIOS boot partition */
  core: Buffer
}

/**
 * @param bootImage GRUB's boot.img, 512 bytes
 * @param coreImage what `grub-mkimage -O i386-pc` made
 * @param coreSector the first sector of the BIOS boot partition (512-byte sectors)
 */
export function biosLoader(bootImage: Buffer, coreImage: Buffer, coreSector: number): BiosLoader {
  if (bootImage.length !== SECTOR || bootImage.readUInt16LE(0x1fe) !== 0xaa55) {
    throw new RangeError('this is not a GRUB boot.img: it must be one sector with a boot signature')
  }
  const sectors = Math.ceil(coreImage.length / SECTOR)
  if (sectors < 2) throw new RangeError('this is not a GRUB core.img: it is shorter than two sectors')

  const bootCode = Buffer.from(bootImage.subarray(0, BOOT_CODE_END))
  bootCode.writeBigUInt64LE(BigInt(coreSector), KERNEL_SECTOR)
  bootCode.fill(0x90, DRIVE_CHECK, DRIVE_CHECK + 2)

  const core = Buffer.alloc(sectors * SECTOR)
  coreImage.copy(core)
  // The rest lies right behind the first sector; grub-mkimage has filled in the load segment already.
  core.writeBigUInt64LE(BigInt(coreSector + 1), BLOCK_LIST)
  core.writeUInt16LE(sectors - 1, BLOCK_LIST + 8)
  return { bootCode, core }
}
