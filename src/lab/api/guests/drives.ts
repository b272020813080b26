import { type Properties, parseProperties, printProperties } from '../property-string.ts'
import { type Bus, DRIVE_FORMATS, NET_FORMAT } from './options.ts'
import type { GuestConfig } from './store.ts'

/** Drives and network cards as a configuration writes them. */

const range = (bus: string, count: number) => Array.from({ length: count }, (_, index) => `${bus}${index}`)

/** In the order in which Proxmox looks for something to boot. */
export const BOOTABLE_SLOTS = [
  ...range('ide', 4),
  ...range('scsi', 31),
  ...range('virtio', 16),
  ...range('sata', 6),
]
export const DISK_SLOTS = [...BOOTABLE_SLOTS, 'efidisk0', 'tpmstate0']
const SLOTS = new Set(DISK_SLOTS)

export function isDriveSlot(name: string): boolean {
  return SLOTS.has(name)
}

function formatOf(slot: string) {
  return DRIVE_FORMATS[slot.replace(/\d+$/, '') as Bus]
}

export function parseDrive(slot: string, value: string | number): Properties & { file: string } {
  return parseProperties(String(value), formatOf(slot)) as Properties & { file: string }
}

export function printDrive(slot: string, drive: Properties): string {
  return printProperties(drive, formatOf(slot))
}

export function isCdrom(drive: Properties): boolean {
  return drive.media === 'cdrom'
}

export function isCloudInit(drive: Properties): boolean {
  return isCdrom(drive) && /vm-\d+-cloudinit/.test(drive.file ?? '')
}

/** A drive with a volume of the guest's own: no CD-ROM, but the cloud-init drive counts. */
export function ownsVolume(drive: Properties): boolean {
  return !isCdrom(drive) || isCloudInit(drive)
}

/** Slots in use, by name. */
export function drivesOf(config: GuestConfig): [string, Properties & { file: string }][] {
  return Object.keys(config)
    .filter(isDriveSlot)
    .sort()
    .map((slot) => [slot, parseDrive(slot, config[slot] as string)])
}

export function parseNet(value: string | number): Properties {
  return parseProperties(String(value), NET_FORMAT)
}

export function printNet(net: Properties): string {
  return printProperties(net, NET_FORMAT)
}

/** A MAC from Proxmox's own prefix. */
export function randomMac(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(3))
  const tail = [...bytes].map((byte) => byte.toString(16).toUpperCase().padStart(2, '0'))
  return `BC:24:11:${tail.join(':')}`
}

const UNITS = ['', 'K', 'M', 'G', 'T']

/** `3G`, `3584M`: the largest unit without remainder. */
export function formatSize(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && value % 1024 === 0 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  return `${value}${UNITS[unit]}`
}

/** Bytes of `10G`; a bare number is bytes. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)$/.exec(text)
  if (!match) return Number.NaN
  return Math.round(Number(match[1]) * 1024 ** UNITS.indexOf(match[2] as string))
}

/** The devices of `boot`, in order; an empty order is written as a blank. */
export function bootOrder(config: GuestConfig): string[] {
  const order = /^order=(.*)$/.exec(String(config.boot ?? ''))?.[1]
  return order === undefined ? [] : order.split(';').filter((device) => device !== '')
}

export function printBootOrder(devices: readonly string[]): string {
  return devices.length === 0 ? ' ' : `order=${devices.join(';')}`
}

/** What Proxmox chooses when `boot` is not given: the first disk, the first CD-ROM, the first network card. */
export function defaultBootOrder(config: GuestConfig): string {
  const slots = BOOTABLE_SLOTS.filter((slot) => config[slot] !== undefined)
  const first = (cdrom: boolean) =>
    slots.find((slot) => isCdrom(parseDrive(slot, config[slot] as string)) === cdrom)
  const net = range('net', 32).find((slot) => config[slot] !== undefined)
  return printBootOrder([first(false), first(true), net].filter((device) => device !== undefined))
}

/** A free `unusedN`. */
export function freeUnused(config: GuestConfig): string {
  for (let index = 0; ; index++) {
    if (config[`unused${index}`] === undefined) return `unused${index}`
  }
}

/** `local:100/vm-100-disk-0.qcow2` → `local` */
export function storageOf(volid: string): string {
  return volid.split(':', 1)[0] as string
}
