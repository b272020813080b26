import { randomMac } from '../guests/drives.ts'
import type { GuestConfig } from '../guests/store.ts'
import { type Properties, parseProperties, printProperties } from '../property-string.ts'
import { FEATURES_FORMAT, NET_FORMAT, ROOT_FORMAT } from './options.ts'

/** Network cards, the root volume and features as a container's configuration writes them. */

export const isNet = (name: string) => /^net\d+$/.test(name)

export function parseNet(value: string | number): Properties & { name: string } {
  return parseProperties(String(value), NET_FORMAT) as Properties & { name: string }
}

/** As Proxmox stores it: with a MAC, and its type. */
export function printNet(net: Properties): string {
  return printProperties({ type: 'veth', ...net, hwaddr: net.hwaddr ?? randomMac() }, NET_FORMAT)
}

export function withNewMac(value: string | number): string {
  return printNet({ ...parseNet(value), hwaddr: randomMac() })
}

export function parseRoot(value: string | number): Properties & { volume: string } {
  return parseProperties(String(value), ROOT_FORMAT) as Properties & { volume: string }
}

export function printRoot(root: Properties): string {
  return printProperties(root, ROOT_FORMAT)
}

/** volid of a container's root; undefined while it is being made */
export function rootVolume(config: GuestConfig): string | undefined {
  return config.rootfs === undefined ? undefined : parseRoot(config.rootfs).volume
}

/** Those that are on. */
export function parseFeatures(value: string | number | undefined): Properties {
  return value === undefined ? {} : parseProperties(String(value), FEATURES_FORMAT)
}

/** Notes are comment lines in Proxmox's files: read back, they end with exactly one newline. */
export function storedDescription(text: string): string | undefined {
  const lines = text.replace(/\n+$/, '')
  return lines === '' ? undefined : `${lines}\n`
}
