/**
 * Where to build: one node of one cluster, with everything that a target says about it. Made by the command
 * line from imagebuild.yaml; whether a Proxmox or the lab answers there cannot be told from it.
 */
export interface Place {
  /** the target's name in imagebuild.yaml */
  target: string
  node: string
  storages: {
    /** guests' disks */
    disks: string
    /** content types import and iso */
    images: string
    /** content type vztmpl: what containers are created from */
    archives: string
  }
  bridge: string
  vlan?: number
  /** Proxmox pool for guests and templates */
  pool?: string
  /** `fixed`: VMIDs that are some template's for ever, and no temporary guest's */
  vmids: { templates: VmidRange; claims: VmidRange; fixed?: readonly number[] }
  macPrefix: string
  /** missing: DHCP */
  addresses?: { first: string; last: string; prefix: number; gateway: string }
  dns: string[]
  ssh: {
    /** public key lines of user CAs, for images that name none */
    authorities: readonly string[]
    /** what images refuse that say nothing themselves: a KRL, or public keys */
    revokedKeys?: Uint8Array
    /** folder of a CA that can sign logins here */
    signer?: string
  }
}

export interface VmidRange {
  first: number
  last: number
}
