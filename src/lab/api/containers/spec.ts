import type { ContainerNic, ContainerSpec } from '../../world.ts'
import { failure } from '../errors.ts'
import { storageOf } from '../guests/drives.ts'
import type { GuestConfig } from '../guests/store.ts'
import { findStorage, type Lab } from '../router.ts'
import { isNet, parseFeatures, parseNet, rootVolume } from './values.ts'

export const DEFAULT_MEMORY = 512
export const DEFAULT_SWAP = 512

/** What Proxmox calls a container without a name. */
export function hostnameOf(vmid: number, config: GuestConfig): string {
  return String(config.hostname ?? `CT${vmid}`)
}

/** A configuration with its root volume resolved to a path. @throws ApiError when the volume is not there */
export async function containerSpec(lab: Lab, vmid: number, config: GuestConfig): Promise<ContainerSpec> {
  const root = rootVolume(config)
  if (root === undefined) throw failure(`CT ${vmid} has no root volume`)
  const storage = findStorage(lab, storageOf(root))
  if (!(await storage.find(root))) throw failure(`volume '${root}' does not exist`)
  const text = (name: string) => (config[name] === undefined ? {} : { [name]: String(config[name]) })
  const features = parseFeatures(config.features)
  const on = (name: string) => (features[name] === '1' ? { [name]: true } : {})
  return {
    vmid,
    hostname: hostnameOf(vmid, config),
    arch: String(config.arch ?? 'amd64'),
    memory: Number(config.memory ?? DEFAULT_MEMORY),
    swap: Number(config.swap ?? DEFAULT_SWAP),
    unprivileged: config.unprivileged === 1,
    features: { ...on('nesting'), ...on('keyctl'), ...on('fuse'), ...on('mknod') },
    root: storage.path(root),
    nics: Object.keys(config)
      .filter(isNet)
      .sort()
      .map((slot) => nic(slot, config[slot] as string)),
    ...(config.cores !== undefined && { cores: Number(config.cores) }),
    ...text('ostype'),
    ...text('nameserver'),
    ...text('searchdomain'),
  }
}

function nic(slot: string, value: string): ContainerNic {
  const { name, hwaddr = '', bridge = '', type: _type, ip, gw, ip6, gw6, ...options } = parseNet(value)
  return {
    ...{ slot, name, mac: hwaddr, bridge, options },
    ...(ip !== undefined && { ip }),
    ...(gw !== undefined && { gw }),
    ...(ip6 !== undefined && { ip6 }),
    ...(gw6 !== undefined && { gw6 }),
  }
}
